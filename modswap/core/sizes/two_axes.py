"""Rules that tie the height of an input to its width."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd, isqrt
from typing import Literal

from modswap.core.sizes.one_axis import divisors

Size = tuple[int, ...]
MAX_OFFSET_STEPS = 6  # of a cell, to either side


@dataclass(frozen=True, slots=True)
class Cell:
    """The cells that strides and kernels make of an axis: floor((size + offset) / step)."""

    step: int = 1
    offset: int = 0

    def of(self, size: int) -> int:
        """Return the number of cells of a size."""
        return (size + self.offset) // self.step

    def words(self, name: str) -> str:
        """Return it as a formula of an axis."""
        sign = "-" if self.offset < 0 else "+"
        inner = f"({name} {sign} {abs(self.offset)})" if self.offset else name
        return inner if self.step == 1 else f"floor({inner} / {self.step})"


@dataclass(frozen=True, slots=True)
class Coupling:
    """A condition on both sides at once.

    Args:
        kind: `same`: as many cells in height as in width; `product`: their product is `value`;
            `broadcast`: it is `value`, or 1, which is added to anything; `multiple`: it is a
            multiple of `value`; `square`: it is the square of a multiple of `value`.
        value: See there.
        cells: How the cells of height and width are counted.
    """

    kind: Literal["same", "product", "broadcast", "multiple", "square"]
    value: int
    cells: tuple[Cell, Cell]

    def takes(self, size: Size) -> bool:
        """Return whether the condition holds for a size."""
        high, wide = (cell.of(side) for cell, side in zip(self.cells, size, strict=True))
        if min(high, wide) < 1:
            return False
        area = high * wide
        match self.kind:
            case "same":
                return high == wide
            case "product":
                return area == self.value
            case "broadcast":
                return area in {1, self.value}
            case "multiple":
                return area % self.value == 0
        return _root(area) % self.value == 0 and _root(area) > 0

    def __str__(self) -> str:
        high, wide = (cell.words(name) for cell, name in zip(self.cells, "HW", strict=True))
        if self.kind == "same":
            return f"{high} = {wide}"
        root = "a square" if self.value == 1 else f"the square of a multiple of {self.value}"
        words = {
            "product": f"= {self.value}",
            "broadcast": f"= {self.value} or 1",
            "multiple": f"divisible by {self.value}",
            "square": root,
        }
        return f"{high} x {wide} {words[self.kind]}"


def _root(area: int) -> int:
    """Return the square root of a square number, or 0."""
    root = isqrt(area)
    return root if root * root == area else 0


def couplings(probes: Mapping[Size, bool]) -> Iterator[Coupling]:
    """Yield every condition of these kinds that all the sizes taken fulfil, simple ones first.

    The probes are sizes (H, W) and whether they were taken; the first one was.
    """
    good = [size for size, ok in probes.items() if ok]
    pairs = list(cell_pairs(probes))
    for kind in (_same, _product, _multiple, _square):
        for cells in pairs:
            counts = [(cells[0].of(high), cells[1].of(wide)) for high, wide in good]
            if min(map(min, counts)) > 0:
                yield from (Coupling(name, n, cells) for name, n in kind(counts))  # type: ignore[arg-type] # one of these names


def _same(counts: Sequence[Size]) -> Iterator[tuple[str, int]]:
    if all(high == wide for high, wide in counts):
        yield "same", 0


def _product(counts: Sequence[Size]) -> Iterator[tuple[str, int]]:
    areas = {high * wide for high, wide in counts}
    if len(areas) == 1:
        yield "product", areas.pop()
    elif len(areas) == 2 and 1 in areas:
        yield "broadcast", max(areas)


def _multiple(counts: Sequence[Size]) -> Iterator[tuple[str, int]]:
    common = gcd(*(high * wide for high, wide in counts))
    yield from (("multiple", value) for value in divisors(common)[1:])


def _square(counts: Sequence[Size]) -> Iterator[tuple[str, int]]:
    roots = [_root(high * wide) for high, wide in counts]
    if all(roots):
        yield from (("square", value) for value in divisors(gcd(*roots)))


def cell_pairs(probes: Mapping[Size, bool]) -> Iterator[tuple[Cell, Cell]]:
    """Yield the cells that explain the runs of accepted sizes around the first."""
    high, wide = (_cells(probes, axis) for axis in (0, 1))
    both = [cell for cell in high if cell in wide]
    yield from ((cell, cell) for cell in both) if both else product(high, wide)


def _cells(probes: Mapping[Size, bool], axis: int) -> list[Cell]:
    first = next(iter(probes))
    start, end = (_edge(probes, first, axis, by) for by in (-1, 1))
    if start is None or end is None:
        return [Cell()]
    step = end - start + 1
    if step == 1:
        common = gcd(*(size[axis] for size, ok in probes.items() if ok))
        whole = [Cell(common)] if common > 1 else []
        return [*_offset(1, start), *whole]
    return _offset(step, start)


def _offset(step: int, start: int) -> list[Cell]:
    """Return the cells of a step that begin at a size."""
    offsets = [
        -start % step + step * reach for reach in range(-MAX_OFFSET_STEPS, MAX_OFFSET_STEPS + 1)
    ]
    return [Cell(step, offset) for offset in sorted(offsets, key=abs) if start + offset > 0]


def _edge(probes: Mapping[Size, bool], size: Size, axis: int, by: int) -> int | None:
    """Return the last side taken in one direction, or None if it is not known."""
    while True:
        beyond = (*size[:axis], size[axis] + by, *size[axis + 1 :])
        if beyond not in probes:
            return None if beyond[axis] else size[axis]
        if not probes[beyond]:
            return size[axis]
        size = beyond

"""Which input sizes are worth trying, so that a rule for all of them can be told."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from random import Random

from modswap.core.sizes.one_axis import divisors
from modswap.core.sizes.rule import SizeRule, fit_rule
from modswap.core.sizes.two_axes import Size, cell_pairs

NEXT = 8  # sizes to either side of the first that are tried one by one
NEAR = 40  # so many where these are not as a plain rule says
LEAST = 64  # every side up to this, or to twice the first, is tried in the end
MOST = 448
FAR = 8  # times the first size: beyond it nothing is tried
GRID = 48
PAIRS = 96

Stage = Callable[[Size, Mapping[Size, bool]], Iterable[Size]]
Settled = Callable[[SizeRule | None], bool]


def sizes_to_try(
    first: Size, probes: Mapping[Size, bool], *, thorough: bool = False
) -> Iterator[Size]:
    """Yield sizes by how much they tell, each once; what was seen so far leads to the next ones.

    Args:
        first: The size that the others start from, (H, W) or (L,).
        probes: Sizes that were tried, and whether they were taken; filled in by the caller while
            the sizes come. A size that is not filled in is not yielded again.
        thorough: Whether sizes are tried one by one even if a rule explains all there were.
    """
    seen = {first}
    for stage, settled in _STAGES:
        if not thorough and settled(fit_rule(probes)):
            continue
        for size in stage(first, probes):
            if size not in seen and min(size) > 0:
                seen.add(size)
                yield size


def ends_to_try(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes that close in on the smallest and the largest taken, as `sizes_to_try` does.

    Args:
        first: The size that the others start from.
        probes: Sizes that were tried, filled in while the sizes come; those are not yielded again.
    """
    return (size for size in _ends(first, probes) if size not in probes and min(size) > 0)


def _never(_: SizeRule | None) -> bool:
    return False


def _known(rule: SizeRule | None) -> bool:
    return rule is not None


def _plain(rule: SizeRule | None) -> bool:
    """Return whether a rule asks for one remainder and no more."""
    if rule is None or rule.coupling is not None:
        return False
    return all(axis.high is None and len(axis.residues) == 1 for axis in rule.axes)


def _opening(first: Size, _: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield the few sizes that tell most."""
    yield tuple(side + 1 for side in first)
    yield tuple(2 * side for side in first)
    yield tuple(side + 32 for side in first)
    yield from (_moved(first, axis, first[axis]) for axis in range(len(first)))
    yield tuple(side // 2 for side in first)
    if len(first) == 2:
        high, wide = first
        yield from ((2 * high, wide // 2), (high // 2, 2 * wide), (wide, high))
        yield (high + 2, wide - 3)
    steps = ([*divisors(side), 3 * side] for side in first)
    yield from _each_axis(first, steps)


def _next_to(first: Size, _: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield every size next to the first, one axis at a time."""
    return _around(first, NEXT)


def _near(first: Size, _: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield every size close by, likewise."""
    return _around(first, NEAR)


def _around(first: Size, reach: int) -> Iterator[Size]:
    steps = [by for distance in range(1, reach + 1) for by in (distance, -distance)]
    return _each_axis(first, [steps] * len(first))


def _each_axis(first: Size, steps: Iterable[Sequence[int]]) -> Iterator[Size]:
    """Yield a size moved along each axis by turns."""
    lines = [[_moved(first, axis, by) for by in moves] for axis, moves in enumerate(steps)]
    for row in zip_longest(*lines):
        yield from (size for size in row if size is not None)


def _moved(size: Size, axis: int, by: int) -> Size:
    return (*size[:axis], size[axis] + by, *size[axis + 1 :])


def _ends(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes that close in on the smallest and the largest of each axis."""
    rule = fit_rule(probes)
    if rule is None or rule.coupling is not None:
        return
    for axis, side in enumerate(first):
        for direction in (range(side, 0, -1), range(side, FAR * side + 1)):
            like = rule.axes[axis]
            sides = [s for s in direction if s % like.modulus in like.residues]
            yield from _closing_in([_moved(first, axis, s - side) for s in sides], probes)


def _closing_in(line: Sequence[Size], probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes of a line whose first is taken, until the last one taken is known."""
    near, far = 0, len(line) - 1
    yield line[far]
    while far - near > 1 and not probes.get(line[far], True):
        middle = (near + far) // 2
        yield line[middle]
        if not probes.get(line[middle], False):
            far = middle
            continue
        near = middle


def _coupled(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes of which only a rule for both sides at once takes some."""
    if len(first) == 1 or not _may_be_coupled(fit_rule(probes)):
        return
    side = min(first)
    alike = [side + by for by in range(-8, 9)] + divisors(side)
    yield from ((other, other) for other in alike)
    yield from islice(dict.fromkeys(_same_area(first, probes)), PAIRS)


def _may_be_coupled(rule: SizeRule | None) -> bool:
    if rule is None or rule.coupling is not None:
        return True
    return any(axis.high is not None or axis.modulus > 1 for axis in rule.axes)


def _same_area(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes of as many cells as the first, however its cells may be counted."""
    lines = []
    for high, wide in cell_pairs(probes):
        area = high.of(first[0]) * wide.of(first[1])
        cells = sorted(((d, area // d) for d in divisors(area)), key=lambda pair: abs(sum(pair)))
        lines.append([(h * high.step - high.offset, w * wide.step - wide.offset) for h, w in cells])
    for row in zip_longest(*lines):
        for size in filter(None, row):
            if max(size) <= FAR * max(first):
                yield size


def _grid(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield pairs of sides that were tried one at a time, half of them of sides that were taken."""
    if len(first) == 1:
        return
    draw = Random(0)  # noqa: S311 - not for secrets
    tried = [sorted({size[axis] for size in probes}) for axis in (0, 1)]
    taken = [sorted({size[axis] for size, ok in probes.items() if ok}) for axis in (0, 1)]
    for _ in range(GRID // 2):
        yield tuple(draw.choice(sides) for sides in taken)
        yield tuple(draw.choice(sides) for sides in tried)


def _lines(first: Size, _: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield every size of a range along each axis, and along the diagonal."""
    end = min(max(LEAST, 2 * max(first)), max(MOST, *first)) + 1
    steps = [[other - side for other in range(1, end)] for side in first]
    yield from _each_axis(first, steps)
    yield from ((side,) * len(first) for side in range(1, end))


_STAGES: tuple[tuple[Stage, Settled], ...] = (
    (_opening, _never),
    (_ends, _never),
    (_next_to, _never),
    (_near, _plain),
    (_ends, _never),
    (_grid, _never),
    (_coupled, _never),
    (_near, _plain),
    (_lines, _known),
    (_grid, _known),
)
"""The stages, each with the rules that make it needless."""


def span_in_words(probes: Iterable[Size]) -> str:
    """Return between which sides sizes were tried.

    Args:
        probes: The sizes.
    """
    sides = list(chain.from_iterable(probes))
    return f"{min(sides)} to {max(sides)}"

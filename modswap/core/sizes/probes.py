"""Choose the input sizes to try, so that a rule for all of them can be found."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice, zip_longest
from math import gcd
from random import Random

from modswap.core.sizes.one_axis import AxisRule, divisors
from modswap.core.sizes.rule import SizeRule, fit_rule
from modswap.core.sizes.two_axes import Size, cell_pairs

USUAL_STEP_PIXELS = 32  # of networks that halve a map five times
NEXT_SIZES = 8  # sizes to either side of the first that are tried one by one
NEAR_SIZES = 40  # the same, where the nearer sizes follow no plain rule
MIN_LINE, MAX_LINE = 64, 448  # every side up to twice the first, within these, is tried at last
FAR_RATIO = 8  # largest size tried, in first sizes
GRID_PAIRS = 48
AREA_PAIRS = 96
RECTANGLES = ((0, -1), (-1, 0), (0, -3), (1, 0), (1, -2))  # strides added to either side

Stage = Callable[[Size, Mapping[Size, bool]], Iterable[Size]]
Settled = Callable[[SizeRule | None], bool]


def sizes_to_try(
    first: Size, probes: Mapping[Size, bool], *, thorough: bool = False
) -> Iterator[Size]:
    """Yield sizes, each once, the most informative first; each choice depends on the results.

    Args:
        first: The size that the others start from, (H, W) or (L,).
        probes: Results: whether the model takes a size. The caller fills them in while the sizes
            come. A size that is not filled in is not yielded again.
        thorough: Whether sizes are tried one by one even if a rule explains all results.
    """
    seen = {first}
    for stage, settled in _STAGES:
        if not thorough and settled is not None and settled(fit_rule(probes)):
            continue
        for size in stage(first, probes):
            if size not in seen and min(size) > 0:
                seen.add(size)
                yield size


def few_sizes_to_try(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield the sizes that a plain rule needs, as `sizes_to_try` does, less those of `probes`."""
    few = (stage for stage, settled in _STAGES if settled is None)
    sizes = (size for stage in few for size in stage(first, probes))
    return (size for size in sizes if size not in probes and min(size) > 0)


def rectangles(first: Size, stride: int, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield rectangles by a model's stride, as a detector is given them, less those of `probes`."""
    if len(first) == 2:
        for high, wide in RECTANGLES:
            size = (first[0] + high * stride, first[1] + wide * stride)
            if min(size) > 0 and size not in probes:
                yield size


def _known(rule: SizeRule | None) -> bool:
    return rule is not None


def _plain(rule: SizeRule | None) -> bool:
    """Return whether a rule consists of one remainder on each axis."""
    if rule is None or rule.coupling is not None:
        return False
    return all(axis.high is None and len(axis.residues) == 1 for axis in rule.axes)


def _opening(first: Size, _: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes that are far apart, and of which rules for both sides at once refuse some."""
    yield from (tuple(side + 1 for side in first), tuple(2 * side for side in first))
    yield tuple(side // 2 for side in first)
    if len(first) == 2:
        high, wide = first
        yield from ((2 * high, wide // 2), (high // 2, 2 * wide), (wide, high))
        yield (high + 2, wide - 3)


def _steps(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes that narrow down the smallest step between sizes that are taken."""
    step = yield from _common_step(first, probes)
    for axis, side in enumerate(first):
        yield _moved(first, axis, step or side)
        if probes.get(_moved(first, axis, step or side)):
            yield from _smaller(first, (axis,), step or side, probes)


def _common_step(first: Size, probes: Mapping[Size, bool]) -> Generator[Size, None, int]:
    """Yield sizes of which all sides are moved by one step; return the smallest taken, or 0."""
    for step in (1, USUAL_STEP_PIXELS, gcd(*first)):
        size = tuple(side + step for side in first)
        yield size
        if probes.get(size):
            return (yield from _smaller(first, range(len(first)), step, probes))
    return 0


def _smaller(
    first: Size, axes: Sequence[int], step: int, probes: Mapping[Size, bool]
) -> Generator[Size, None, int]:
    """Yield the first size moved by a step, divided by its primes while the size is taken."""
    primes = [d for d in divisors(step)[1:] if len(divisors(d)) == 2]
    for prime in primes:
        while step % prime == 0:
            size = tuple(side + (step // prime) * (i in axes) for i, side in enumerate(first))
            yield size
            if not probes.get(size):
                break
            step //= prime
    return step


def _doubts(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes at which a plain rule is wrong if the model follows a rule of another kind."""
    steps = _gaps(first, probes)
    if 0 in steps:  # one size, or one area
        return
    # refused by a rule of more remainders, or for both sides at once
    yield from (_shifted(first, moves, steps) for moves in WHOLE_STEPS)
    if max(steps) == 1:
        yield from (_shifted(first, moves, steps) for moves in SINGLE_STEPS)
        return
    # taken by a rule of more remainders
    yield from (tuple(side + by for side in first) for by in PARTS if by % max(steps))
    yield (1,) * len(first)  # one place may be broadcast to many
    if len(first) == 2 and steps[0] ** 2 <= FAR_RATIO * max(first):  # taken by a rule for the area
        yield (steps[0] ** 2, first[1] + 1)


WHOLE_STEPS = ((1, -1), (-1, 2), (3, 1), (2, 5))
SINGLE_STEPS = ((-2, 3), (-3, -5), (4, 7), (5, -7), (6, -6), (-8, 8))
PARTS = (-1, 2, 3, 5, -2, -3)  # of a step


def _shifted(size: Size, moves: Sequence[int], steps: Sequence[int]) -> Size:
    return tuple(side + by * step for side, by, step in zip(size, moves, steps, strict=False))


def _divided(first: Size, _: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield a size with each divisor of its sides added, one axis at a time."""
    yield from _each_axis(first, ([*divisors(side), 3 * side] for side in first))


def _near(first: Size, _: Mapping[Size, bool], reach: int = NEAR_SIZES) -> Iterator[Size]:
    """Yield every size near the first, one axis at a time."""
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
    if rule is not None and rule.coupling is not None:
        return
    axes = rule.axes if rule is not None else _stepped(first, probes)
    for down in (True, False):
        last = 0
        for axis, side in enumerate(first):
            sides = range(side, 0, -1) if down else range(side, FAR_RATIO * side + 1)
            like = axes[axis]
            line = [
                _moved(first, axis, other - side)
                for other in sides
                if other % like.modulus in like.residues
            ]
            last = yield from _closing_in(line, probes, last)


def _stepped(first: Size, probes: Mapping[Size, bool]) -> tuple[AxisRule, ...]:
    """Return for each axis the rule of the step between the sides that are taken."""
    gaps = zip(_gaps(first, probes), first, strict=True)
    steps = ((gap or FAR_RATIO * side, side) for gap, side in gaps)
    return tuple(AxisRule(step, (side % step,)) for step, side in steps)


def _gaps(first: Size, probes: Mapping[Size, bool]) -> list[int]:
    """Return for each axis the step between the sides that are taken; 0 if there is one side."""
    taken = [size for size, ok in probes.items() if ok]
    return [gcd(*(size[axis] - side for size in taken)) for axis, side in enumerate(first)]


def _closing_in(
    line: Sequence[Size], probes: Mapping[Size, bool], guess: int
) -> Generator[Size, None, int]:
    """Yield sizes of a line whose first is taken, until the last taken size is known.

    `guess` is its probable index, 0 for no guess.
    """
    near, far = 0, len(line) - 1
    yield line[far]
    if probes.get(line[far], True):
        return 0
    guesses = [guess, guess + 1] if guess < far else []
    while far - near > 1:
        middle = guesses.pop(0) if guesses else (near + far) // 2
        if near < middle < far:
            yield line[middle]
            near, far = (middle, far) if probes.get(line[middle], False) else (near, middle)
    return near


def _coupled(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield sizes that only a rule for both sides at once takes."""
    if len(first) == 1 or not _may_be_coupled(fit_rule(probes)):
        return
    side = min(first)
    alike = [side + by for by in range(-8, 9)] + divisors(side)
    yield from ((other, other) for other in alike)
    yield from islice(dict.fromkeys(_same_area(first, probes)), AREA_PAIRS)


def _may_be_coupled(rule: SizeRule | None) -> bool:
    """Return whether a rule for both sides at once may replace this rule, or no rule."""
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
            if max(size) <= FAR_RATIO * max(first):
                yield size


def _grid(first: Size, probes: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield pairs of sides that were tried one at a time, half of them of sides that were taken."""
    if len(first) == 1:
        return
    draw = Random(0)  # noqa: S311 - not for secrets
    tried, taken = _sides(probes), _sides(size for size, ok in probes.items() if ok)
    for _ in range(GRID_PAIRS // 2):
        yield tuple(map(draw.choice, taken))
        yield tuple(map(draw.choice, tried))


def _sides(sizes: Iterable[Size]) -> list[list[int]]:
    """Return the sides of each axis, ascending."""
    return [sorted({*sides}) for sides in zip(*sizes, strict=True)]


def _lines(first: Size, _: Mapping[Size, bool]) -> Iterator[Size]:
    """Yield every size of a range along each axis, and along the diagonal."""
    end = min(max(MIN_LINE, 2 * max(first)), max(MAX_LINE, *first)) + 1
    steps = [[other - side for other in range(1, end)] for side in first]
    yield from _each_axis(first, steps)
    yield from ((side,) * len(first) for side in range(1, end))


_STAGES: tuple[tuple[Stage, Settled | None], ...] = (
    (_opening, None),
    (_steps, None),
    (_ends, None),
    (_doubts, None),  # from here on a plain rule is known
    (_divided, _plain),
    (partial(_near, reach=NEXT_SIZES), _plain),
    (_near, _plain),
    (_ends, _plain),
    (_grid, _plain),
    (_coupled, _plain),
    (_near, _plain),
    (_lines, _known),
    (_grid, _known),
)
"""The stages, each with a test for rules that make it unnecessary."""


def span_in_words(probes: Iterable[Size]) -> str:
    """Return the range of the sides that were tried, in words."""
    sides = list(chain.from_iterable(probes))
    return f"{min(sides)} to {max(sides)}"

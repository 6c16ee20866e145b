"""Follow the rows and columns of maps through reshapes, to tell tokens of a map from a sequence.

An axis of a tensor is a product of factors, the slowest first. Flattening a map of 4 rows and 6
columns makes an axis of the factors (row, 4) and (column, 6); words of a sentence make an axis of
an unknown factor, also if their number is a square.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import prod
from typing import Literal, NamedTuple

Kind = Literal["row", "column", "other"]


class Factor(NamedTuple):
    """A part of an axis."""

    kind: Kind
    size: int


Axis = tuple[Factor, ...]  # the product of the sizes is the size of the axis


def unknown(size: int) -> Axis:
    """Return an axis of which nothing is known but its size."""
    return (Factor("other", size),)


def map_axes(shape: Sequence[int]) -> tuple[Axis, ...]:
    """Return the axes of maps (…, H, W)."""
    *outer, height, width = shape
    return (*map(unknown, outer), (Factor("row", height),), (Factor("column", width),))


def is_known(axis: Axis) -> bool:
    """Return whether an axis holds rows or columns of a map."""
    return any(factor.kind != "other" for factor in axis)


def resized(axis: Axis, size: int) -> Axis:
    """Return an axis after a part of it was cut out or padded: rows stay rows."""
    kinds = {factor.kind for factor in axis}
    if prod(factor.size for factor in axis) == size:
        return axis
    return (Factor(kinds.pop(), size),) if len(kinds) == 1 else unknown(size)


def reshaped(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[Axis, ...]:
    """Return the axes of a tensor after a reshape that keeps the order of its elements."""
    rest = [factor for axis in axes for factor in axis]
    if 0 in shape or any(factor.size == 0 for factor in rest):
        return tuple(map(unknown, shape))
    found: list[Axis] = []
    for size in shape:
        taken = _taken(rest, size)
        if taken is None:
            return tuple(map(unknown, shape))
        found.append(taken)
    return tuple(found)


def _taken(rest: list[Factor], size: int) -> Axis | None:
    """Take factors of a size from the front of a list; None if they do not divide."""
    taken: list[Factor] = []
    while size > 1 or not taken:
        factor = _part(rest, size)
        if factor is None:
            return None if size > 1 else ()
        taken.append(factor)
        size //= factor.size
    # a row or column of one pixel belongs to the map before it
    while rest and rest[0] in {("row", 1), ("column", 1)} and is_known(tuple(taken)):
        taken.append(rest.pop(0))
    return tuple(taken)


def _part(rest: list[Factor], size: int) -> Factor | None:
    """Take the first factor of a list, or the part of it that divides a size; None for neither."""
    if not rest:
        return None
    kind, whole = rest[0]
    if size % whole == 0:
        return rest.pop(0)
    if size == 1 or whole % size:
        return None
    rest[0] = Factor(kind, whole // size)
    return Factor(kind, size)


def grid_of(axis: Axis) -> tuple[int, int] | None:
    """Return the height and width of the map that an axis holds, row by row; None if it is none."""
    runs = [(kind, prod(factor.size for factor in run)) for kind, run in _runs(axis)]
    if sorted(kind for kind, _ in runs) != ["column", "row"]:
        return None
    return runs[0][1], runs[1][1]


def hold_windows(axes: Sequence[Axis]) -> bool:
    """Return whether four axes hold windows of maps: rows and columns in one axis, and no map."""
    kinds = [{factor.kind for factor in axis if factor.size != 1} for axis in axes]
    if len(kinds) != 4 or not any({"row", "column"} <= kind for kind in kinds[1:]):
        return False
    return not any(_are_sides(kinds[at], kinds[at + 1]) for at in (1, 2))


def _are_sides(first: set[Kind], second: set[Kind]) -> bool:
    """Return whether two axes are rows and columns alone, in any order; an axis of 1 is either."""
    return max(len(first), len(second)) <= 1 and "other" not in first | second and first != second


def _runs(axis: Axis) -> Iterable[tuple[Kind, list[Factor]]]:
    """Yield the factors that follow one another with the same kind, other factors of 1 left out."""
    held = (factor for factor in axis if factor.kind != "other" or factor.size != 1)
    return ((kind, list(run)) for kind, run in groupby(held, key=lambda factor: factor.kind))

"""Derive a module tree from tensor names, for files that hold weights without code."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from modswap.core.seen.tree import TreeRow

WEIGHTS = "the file holds weights without code: classes are unknown; name them with `--model`"
_MAX_AXES = 64  # as torch allows
_MAX_SIDE = 1 << 63


def elements(shape: Sequence[Any]) -> int | None:
    """Return the number of elements of a shape; None if no tensor can have this shape."""
    sides = all(type(side) is int and 0 <= side < _MAX_SIDE for side in shape)
    return prod(shape) if sides and len(shape) <= _MAX_AXES else None


def implied_rows(tensors: Mapping[str, tuple[int, int]]) -> tuple[TreeRow, ...]:
    """Return a row for every dotted beginning of a tensor name, from elements and bytes by name."""
    sizes = {"": (0, 0)}
    for name, (count, nbytes) in tensors.items():
        segments = name.split(".")[:-1]
        for end in range(len(segments) + 1):
            path = ".".join(segments[:end])
            old = sizes.get(path, (0, 0))
            sizes[path] = (old[0] + count, old[1] + nbytes)
    return tuple(TreeRow(path, "", count, nbytes) for path, (count, nbytes) in sizes.items())

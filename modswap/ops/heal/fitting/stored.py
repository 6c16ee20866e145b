"""Inputs and targets of a site, kept for the time of a fit: in memory, or in a temporary file."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from modswap.core.decided.cost import size_text
from modswap.live_values import live_tensors
from modswap.ops.heal.fitting.pace import Pace

PROBED = 3  # samples whose calls show which tensors have a row for each sample
DISK_TIMES = 2  # free bytes of a disk for each byte kept there
CLOSE = (
    1e-3  # difference of a kept value from one that is computed again, over the standard deviation
)

Calls = Sequence[tuple[Any, Any, Any]]  # arguments, keyword arguments, target
Pairs = Callable[[Sequence[int]], Calls]


@dataclass(frozen=True, slots=True)
class Room:
    """Where inputs and targets of a site may be kept.

    Args:
        nbytes: Bytes of memory; 0 for none.
        folder: Folder for a temporary file; None for none.
    """

    nbytes: int = 0
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """Calls of a site by the numbers of the samples, and a sentence on where they come from."""

    pairs: Pairs
    description: str


@contextmanager
def stored(pairs: Pairs, indices: Sequence[int], pace: Pace, room: Room) -> Iterator[Kept]:
    """Keep the calls of a site in memory where they fit, else in a file, else nowhere.

    They are kept where a fit sees a sample more than once, every tensor of a call has a row for
    each sample, or as many for each (windows of a map), and a row does not depend on the others of
    its batch.
    """
    in_step = Kept(pairs, "inputs and targets computed in step")
    if pace.steps * pace.batch <= len(indices) or len(indices) < 2 * PROBED or room == Room():
        yield in_step
        return
    with torch.no_grad():
        layout = _layout(pairs, indices)
    if layout is None:
        yield in_step
        return
    nbytes = layout.nbytes * len(indices)
    size = size_text(nbytes)
    if nbytes <= room.nbytes:
        rows = _Rows(layout, indices, lambda _, shape, dtype: torch.empty(shape, dtype=dtype))
        yield _filled(rows, pairs, pace, f"inputs and targets kept in memory, {size}") or in_step
    elif room.folder is not None and shutil.disk_usage(room.folder).free > DISK_TIMES * nbytes:
        with tempfile.TemporaryDirectory(prefix=".modswap-", dir=room.folder) as folder:
            rows = _Rows(layout, indices, _mapped(Path(folder)))
            text = f"inputs and targets streamed from a temporary file, {size}"
            yield _filled(rows, pairs, pace, text) or in_step
            del rows
    else:
        yield in_step


@dataclass(frozen=True, slots=True)
class _Layout:
    """The structure of calls: which leaves are which tensor, and the rest of them."""

    spec: TreeSpec
    leaves: tuple[Any, ...]  # None where a tensor is
    numbers: tuple[int | None, ...]  # of the tensor at each leaf
    shapes: tuple[tuple[int, ...], ...]  # of each tensor: rows of a sample, and their shape
    dtypes: tuple[torch.dtype, ...]

    @property
    def nbytes(self) -> int:
        """Return the bytes of a sample."""
        sizes = zip(self.shapes, self.dtypes, strict=True)
        return sum(prod(shape) * dtype.itemsize for shape, dtype in sizes)


def _layout(pairs: Pairs, indices: Sequence[int]) -> _Layout | None:
    """Return the structure of calls; None where a tensor has no row for each sample."""
    found = [_of_calls(pairs(indices[:count]), count) for count in (PROBED - 1, PROBED)]
    return found[0] if found[0] == found[1] else None


def _of_calls(calls: Calls, count: int) -> _Layout | None:
    leaves, spec = tree_flatten([tuple(call) for call in calls])
    tensors = _distinct(leaves)
    whole = all(isinstance(each, torch.Tensor) or not live_tensors(each) for each in leaves)
    if not whole or any(each.ndim == 0 or len(each) % count for each in tensors):
        return None
    places = {id(each): number for number, each in enumerate(tensors)}
    return _Layout(
        spec,
        tuple(None if isinstance(each, torch.Tensor) else each for each in leaves),
        tuple(places.get(id(each)) for each in leaves),
        tuple((len(each) // count, *each.shape[1:]) for each in tensors),
        tuple(each.dtype for each in tensors),
    )


def _distinct(leaves: Sequence[Any]) -> list[torch.Tensor]:
    tensors = [each for each in leaves if isinstance(each, torch.Tensor)]
    return list({id(each): each for each in tensors}.values())


class _Rows:
    """The rows of each tensor for each sample."""

    def __init__(
        self,
        layout: _Layout,
        indices: Sequence[int],
        empty: Callable[[int, tuple[int, ...], torch.dtype], torch.Tensor],
    ) -> None:
        self.layout = layout
        self.rows = {index: row for row, index in enumerate(indices)}
        shapes = zip(layout.shapes, layout.dtypes, strict=True)
        self.tensors = [
            empty(number, (len(indices), *shape), dtype)
            for number, (shape, dtype) in enumerate(shapes)
        ]

    def put(self, indices: Sequence[int], calls: Calls) -> None:
        """Keep the calls of samples."""
        tensors = _distinct(tree_flatten([tuple(call) for call in calls])[0])
        index = torch.tensor([self.rows[index] for index in indices])
        for kept, tensor in zip(self.tensors, tensors, strict=True):
            kept[index] = tensor.cpu().view(len(indices), *kept.shape[1:])

    def __call__(self, indices: Sequence[int]) -> Calls:
        """Return the calls of samples."""
        index = torch.tensor([self.rows[index] for index in indices])
        tensors = [kept[index].flatten(0, 1) for kept in self.tensors]
        pairs = zip(self.layout.leaves, self.layout.numbers, strict=True)
        leaves = [leaf if number is None else tensors[number] for leaf, number in pairs]
        calls: Calls = tree_unflatten(leaves, self.layout.spec)
        return calls


def _filled(rows: _Rows, pairs: Pairs, pace: Pace, text: str) -> Kept | None:
    """Return the calls of all samples, kept; None if one computed again is another."""
    indices = list(rows.rows)
    with torch.no_grad():
        for start in range(0, len(indices), pace.batch):
            some = indices[start : start + pace.batch]
            calls = pairs(some)
            if _of_calls(calls, len(some)) != rows.layout:
                return None
            rows.put(some, calls)
        probe = [indices[-1], indices[0], indices[len(indices) // 2]]
        again = live_tensors([tuple(call) for call in pairs(probe)])
        kept = live_tensors(list(rows(probe)))
    same = all(_close(one, other.cpu()) for one, other in zip(kept, again, strict=True))
    return Kept(rows, text) if same else None


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    spread = float(one.double().std()) if one.numel() > 1 else 0.0
    return torch.allclose(one.double(), other.double(), rtol=CLOSE, atol=CLOSE * spread)


def _mapped(folder: Path) -> Callable[[int, tuple[int, ...], torch.dtype], torch.Tensor]:
    """Return a function that makes a tensor whose values are in a file of the folder."""

    def empty(number: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        file = str(folder / f"{number}.bin")
        return torch.from_file(file, shared=True, size=prod(shape), dtype=dtype).view(shape)

    return empty

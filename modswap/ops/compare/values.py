"""Measure how far the values of two tensors are apart, block by block in little memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import torch

from modswap.core.kept.difference import Spread
from modswap.io.formats.contents import HeldTensor
from modswap.io.raw.spans import Descriptors, Span, batches, threads

BLOCK_ELEMENTS = 1 << 16  # whose float64 values stay in the processor's cache
_PART_ELEMENTS = 1 << 22  # read by one thread
_BATCH_ELEMENTS = 1 << 16  # of small tensors, given to a thread together
_QUANTIZED = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}  # their numbers as stored
_LONG = (torch.int64, torch.uint64)
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}


@dataclass(slots=True)
class _Sums:
    """The sums over some elements of two tensors."""

    changed: int = 0
    nan_a: int = 0
    nan_b: int = 0
    infinite_a: int = 0
    infinite_b: int = 0
    most: float = 0.0  # the largest distance
    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    apart: float = 0.0  # of squares of distances

    def add(self, other: "_Sums") -> None:
        """Add the sums over further elements."""
        most = max(self.most, other.most)
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.most = most


_SUMMED = tuple(one.name for one in fields(_Sums))
Block = Callable[[int, int], torch.Tensor]  # start, count → elements
_Task = tuple[int, int, int]  # the number of a pair, the first element and the end


def spreads(
    pairs: Sequence[tuple[HeldTensor, HeldTensor]],
    files: Descriptors,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Spread | None]:
    """Return how far the values of tensors of one shape are apart.

    It is None where the bytes of one have no numbers that torch could read.
    """
    sums: dict[int, _Sums] = {}

    def work(task: _Task) -> tuple[int, _Sums]:
        number, start, end = task
        a, b = pairs[number]
        found = _part(blocks(a, b, files), start, end)
        advance((end - start) * (_itemsize(a) + _itemsize(b)))
        return number, found

    def work_all(tasks: Sequence[_Task]) -> list[tuple[int, _Sums]]:
        return [work(task) for task in tasks]

    known = [(n, *pair) for n, pair in enumerate(pairs) if None not in map(_torch_dtype, pair)]
    streamed = [(n, a.numel) for n, a, b in known if _is_streamed(a, b)]
    whole = [(n, 0, a.numel) for n, a, b in known if not _is_streamed(a, b)]
    with _one_thread_each(), ThreadPoolExecutor(threads()) as pool:
        tasks = (task for number, count in streamed for task in _parts(number, count))
        groups = batches(tasks, lambda task: task[2] - task[1], _BATCH_ELEMENTS)
        done = chain.from_iterable(pool.map(work_all, groups))
        # of those that are read as a whole, one at once is in memory
        for number, found in chain(done, map(work, whole)):
            sums.setdefault(number, _Sums()).add(found)
    found_of = {number: _spread(found, *pairs[number]) for number, found in sums.items()}
    return [found_of.get(number) for number in range(len(pairs))]


def _parts(number: int, count: int) -> Iterator[_Task]:
    """Yield the parts of a tensor that one thread reads each: its number, the start, the end."""
    for start in range(0, count, _PART_ELEMENTS):
        yield number, start, min(start + _PART_ELEMENTS, count)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let operations of torch use one thread each, where several threads call them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _torch_dtype(held: HeldTensor) -> torch.dtype | None:
    name = held.facts.dtype
    found = getattr(torch, _QUANTIZED.get(name, name), None)
    return found if isinstance(found, torch.dtype) else None


def _itemsize(held: HeldTensor) -> int:
    dtype = _torch_dtype(held)
    return dtype.itemsize if dtype is not None else 1


def _is_streamed(a: HeldTensor, b: HeldTensor) -> bool:
    """Return whether the elements of both lie in one order, which is then of no matter."""
    return a.dense and b.dense and a.strides == b.strides


def blocks(a: HeldTensor, b: HeldTensor, files: Descriptors) -> tuple[Block, Block]:
    """Return functions that read elements of two tensors, in one and the same order."""
    read = _stream if _is_streamed(a, b) else _whole
    return read(a, files), read(b, files)


def _stream(held: HeldTensor, files: Descriptors) -> Block:
    dtype: Any = _torch_dtype(held)
    span = Span(held.extents, files)

    def block(start: int, count: int) -> torch.Tensor:
        buffer = bytearray(count * dtype.itemsize)
        span.read(start * dtype.itemsize, memoryview(buffer))
        return torch.frombuffer(buffer, dtype=torch.uint8).view(dtype)

    return block


def _whole(held: HeldTensor, files: Descriptors) -> Block:
    """Read a whole tensor, whose elements lie in another order than those of the other one."""
    dtype: Any = _torch_dtype(held)
    shape = held.facts.shape
    if held.tiles:
        whole = torch.empty(shape, dtype=dtype)
        for tile in held.tiles:
            part = _stream(HeldTensor(held.facts, (tile.extent,)), files)
            place = tuple(slice(o, o + s) for o, s in zip(tile.offsets, tile.sizes, strict=True))
            whole[place] = part(0, math.prod(tile.sizes)).view(tile.sizes)
    else:
        flat = _stream(held, files)(0, held.nbytes // dtype.itemsize)
        whole = flat.view(shape) if held.strides is None else flat.as_strided(shape, held.strides)
    elements = whole.reshape(-1)
    return lambda start, count: elements[start : start + count]


def _part(sides: tuple[Block, Block], start: int, end: int) -> _Sums:
    """Return the sums over the elements from `start` to `end`."""
    found = _Sums()
    for place in range(start, end, BLOCK_ELEMENTS):
        count = min(BLOCK_ELEMENTS, end - place)
        found.add(_sums(*(side(place, count) for side in sides)))
    return found


def _sums(x: torch.Tensor, y: torch.Tensor) -> _Sums:
    """Return the sums over one block."""
    paired = x.is_complex() or y.is_complex()
    a, b = _doubles(x, paired=paired), _doubles(y, paired=paired)
    found = _Sums(aa=_dot(a, a), bb=_dot(b, b), ab=_dot(a, b))
    if math.isfinite(found.aa + found.bb):
        found.changed = _changed(x, y, a, b)
        if found.changed:
            apart = _apart(x, y, a, b)
            found.apart = _dot(apart, apart)
            found.most = _largest(apart)
        return found
    return _odd_sums(x, y, a, b)


def _apart(x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the distances of two blocks in float64, those of large whole numbers too."""
    apart = a - b
    if x.dtype == y.dtype and x.dtype in _LONG:  # a float64 rounds them from 2^53 on
        exact = x.view(torch.int64) - y.view(torch.int64)  # modulo 2^64
        apart = apart.where(apart.abs() > 2.0**62, exact.to(torch.float64))
    return apart


def _odd_sums(x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> _Sums:
    """Return the sums over a block in which values are not finite, or have no finite square."""
    finite = torch.isfinite(a) & torch.isfinite(b)
    ones, others = a.where(finite, 0.0), b.where(finite, 0.0)
    apart = ones - others
    infinite = a.isinf() | b.isinf()
    beside = infinite & (a != b) & ~a.isnan() & ~b.isnan()
    return _Sums(
        _changed(x, y, a, b),
        int(a.isnan().sum()),
        int(b.isnan().sum()),
        int(a.isinf().sum()),
        int(b.isinf().sum()),
        math.inf if bool(beside.any()) else _largest(apart),
        _dot(ones, ones),
        _dot(others, others),
        _dot(ones, others),
        _dot(apart, apart),
    )


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a.reshape(-1), b.reshape(-1)))


def _doubles(x: torch.Tensor, *, paired: bool) -> torch.Tensor:
    """Return values in float64; complex ones with their two numbers in a second axis."""
    if paired:
        return torch.view_as_real(x.to(torch.complex128))
    return x.to(torch.float64)


def _largest(apart: torch.Tensor) -> float:
    if apart.ndim == 2:  # complex numbers
        apart = torch.linalg.vector_norm(apart, dim=1)
    return float(torch.linalg.vector_norm(apart, math.inf))


def _changed(x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> int:
    """Return how many elements differ: in a bit, or in value where the dtypes differ."""
    if x.dtype == y.dtype:
        kind, step = _BITS[x.dtype.itemsize], max(1, x.dtype.itemsize // 8)
        different = x.contiguous().view(kind) != y.contiguous().view(kind)
        if step > 1:
            different = different.view(-1, step).any(1)
    else:
        different = (a != b) & ~(a.isnan() & b.isnan())
        if different.ndim == 2:
            different = different.any(1)
    return int(torch.count_nonzero(different))


def _spread(found: _Sums, a: HeldTensor, b: HeldTensor) -> Spread:
    sizes = math.sqrt(found.aa), math.sqrt(found.bb)
    relative = math.sqrt(found.apart) / sizes[0] if sizes[0] else None
    cosine = _known(found.ab / sizes[0] / sizes[1] if all(sizes) else None)
    return Spread(
        a.numel,
        found.changed,
        found.most,
        _known(relative),
        None if cosine is None else max(-1.0, min(1.0, cosine)),
        (found.nan_a, found.nan_b),
        (found.infinite_a, found.infinite_b),
        a.facts.dtype != b.facts.dtype,
    )


def _known(number: float | None) -> float | None:
    """Return a number; None for one whose parts are beyond what a float64 holds."""
    return number if number is not None and math.isfinite(number) else None

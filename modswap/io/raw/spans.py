"""Read and compare bytes that lie in several places, in little memory and in several threads."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from threading import Event, Lock, local
from typing import TypeVar

from modswap.core.errors import CheckpointError
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.held import open_source

Task = TypeVar("Task")
BLOCK_BYTES = 1 << 19  # of each side, read and compared at once: they stay in the cache
_PART_BYTES = 64 << 20  # of each side, compared by one thread
_BATCH_BYTES = 1 << 20  # of small parts, given to a thread together: each handover takes its time
MAX_THREADS = 4


class Descriptors:
    """The descriptors of the files that are read, each opened once."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}
        self._lock = Lock()

    def of(self, file: Path) -> int:
        """Return the descriptor of a file."""
        with self._lock:
            if file not in self._open:
                self._open[file] = open_source(file)
            return self._open[file]

    def close(self) -> None:
        """Close them all."""
        for descriptor in self._open.values():
            os.close(descriptor)


@contextmanager
def descriptors() -> Iterator[Descriptors]:
    """Yield descriptors that are closed at the end of a block."""
    held = Descriptors()
    try:
        yield held
    finally:
        held.close()


class Span:
    """Bytes in several ranges, one behind the other."""

    def __init__(self, extents: Sequence[ByteRange], files: Descriptors) -> None:
        self.extents, self.files = extents, files
        self.ends = tuple(accumulate(one.nbytes for one in extents))
        self.nbytes = self.ends[-1] if self.ends else 0

    def read(self, start: int, target: memoryview) -> None:
        """Fill a buffer with the bytes from `start` on.

        Raises:
            CheckpointError: If a file ends before.
        """
        done = 0
        for extent, end in zip(self.extents, self.ends, strict=True):
            at = start + done
            count = min(end - at, len(target) - done)
            if count > 0:
                self._read(extent, at - (end - extent.nbytes), target[done : done + count])
                done += count

    def _read(self, extent: ByteRange, start: int, target: memoryview) -> None:
        if extent.file is None:
            target[:] = memoryview(extent.data)[start : start + len(target)]
            return
        descriptor, place = self.files.of(extent.file), extent.start + start
        while target:
            count = os.preadv(descriptor, [target], place)
            if not count:
                what = f"it ends within {extent.name!r:.80}"
                raise CheckpointError(what, str(extent.file), "save or download it again")
            target, place = target[count:], place + count


def threads() -> int:
    """Return how many threads read at once."""
    return max(1, min(MAX_THREADS, os.cpu_count() or 1))


def batches(
    tasks: Iterable[Task], size: Callable[[Task], int], most: int
) -> Iterator[tuple[Task, ...]]:
    """Yield tasks in groups, each of a size of `most` or a little more; a large task alone."""
    group: list[Task] = []
    total = 0
    for task in tasks:
        group.append(task)
        total += size(task)
        if total >= most:
            yield tuple(group)
            group, total = [], 0
    if group:
        yield tuple(group)


class _Buffers(local):
    """Two buffers of each thread."""

    def __init__(self) -> None:
        self.pair = bytearray(BLOCK_BYTES), bytearray(BLOCK_BYTES)


_buffers = _Buffers()


def are_equal(
    pairs: Sequence[tuple[Span, Span]], advance: Callable[[int], None] = lambda _: None
) -> list[bool]:
    """Return for each pair whether its bytes are equal; reading ends where they differ.

    Each advance has the bytes of both sides that need not be read any more.

    Raises:
        CheckpointError: If a file ends before.
    """
    differ = [Event() for _ in pairs]
    for (a, b), different in zip(pairs, differ, strict=True):
        if a.nbytes != b.nbytes:
            different.set()

    def compare(tasks: Sequence[tuple[int, int, int]]) -> None:
        for number, start, end in tasks:
            a, b = pairs[number]
            if not differ[number].is_set() and not _equal_part(a, b, start, end, differ[number]):
                differ[number].set()
            advance(2 * (end - start))

    tasks = [
        (number, start, min(start + _PART_BYTES, a.nbytes))
        for number, (a, _) in enumerate(pairs)
        if not differ[number].is_set()
        for start in range(0, a.nbytes, _PART_BYTES)
    ]
    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(compare, batches(tasks, lambda task: task[2] - task[1], _BATCH_BYTES)))
    return [not different.is_set() for different in differ]


def _equal_part(a: Span, b: Span, start: int, end: int, stop: Event) -> bool:
    one, other = _buffers.pair
    while start < end and not stop.is_set():
        count = min(end - start, BLOCK_BYTES)
        with memoryview(one) as target:
            a.read(start, target[:count])
        with memoryview(other) as target:
            b.read(start, target[:count])
        # whole buffers are compared by the C library, parts of them byte by byte
        same = one == other if count == BLOCK_BYTES else one[:count] == other[:count]
        if not same:
            return False
        start += count
    return True

"""Writing a file from pieces of other files, copied by the kernel and checked on arrival."""

import errno
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from modswap.core.errors import CheckpointError
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.watching import Arrival, Front, check_behind, digest_behind, flush_behind

_PIECE = 4 << 20  # bytes that are copied at once
_BLOCK = 1 << 20  # bytes that are copied at once by hand
# what a file system or a kernel says that cannot copy in one of the ways
_UNABLE = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)

Way = Callable[[int, int, int, int], int]  # target, source, start, count → bytes copied


def by_hand(target: int, source: int, start: int, count: int) -> int:
    """Copy through this program's memory."""
    return os.write(target, os.pread(source, min(count, _BLOCK), start))


WAYS: tuple[Way, ...] = (by_hand,)
if sys.platform == "linux":  # pragma: no branch - elsewhere there is one way

    def by_range(target: int, source: int, start: int, count: int) -> int:
        """Copy inside the kernel, which shares the blocks where the file system can."""
        return os.copy_file_range(source, target, count, offset_src=start)

    def by_send(target: int, source: int, start: int, count: int) -> int:
        """Copy inside the kernel, from one file system to another too."""
        return os.sendfile(target, source, start, count)

    WAYS = (by_range, by_send, by_hand)


class Sink:
    """A new file, written from front to back, its digest and its copies checked meanwhile.

    Args:
        file: An empty file, or none yet.
        nbytes: How long it will be; that much is reserved at once.
        checksums: Whether copies are compared with the checksums of their sources; where not, and
            where there are none, they are compared with the sources themselves.
        ways: How to copy, the best way first.

    Raises:
        OSError: If the disk has no room for it, or for whatever else the system refuses.
    """

    def __init__(
        self, file: Path, nbytes: int, *, checksums: bool = True, ways: tuple[Way, ...] = WAYS
    ) -> None:
        self.position = 0
        self.arrivals: list[Arrival] = []
        self._ways = ways
        self._front = Front()
        self._queue: SimpleQueue[Arrival | None] = SimpleQueue()
        self._sources: dict[Path, int] = {}
        self._target = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _reserve(self._target, nbytes)
        except OSError:
            os.close(self._target)
            raise
        # they wait for one another: each needs a thread of its own
        self._pool = ThreadPoolExecutor(3)
        submit, target, front = self._pool.submit, self._target, self._front
        self._digest: Future[str] = submit(digest_behind, target, front)
        self._flushed: Future[None] = submit(flush_behind, target, front)
        self._checked: Future[None] = submit(
            check_behind, target, front, self._queue, checksums=checksums
        )

    def __enter__(self) -> "Sink":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        self._pool.shutdown(wait=True)
        for descriptor in (*self._sources.values(), self._target):
            os.close(descriptor)

    def write(self, data: bytes | memoryview) -> None:
        """Write bytes."""
        view = memoryview(data)
        while len(view):
            count = os.write(self._target, view[:_PIECE])
            self._moved(count)
            view = view[count:]

    def copy(self, extent: ByteRange) -> None:
        """Write an extent.

        Raises:
            CheckpointError: If its file ends before it does.
        """
        if extent.file is None:
            self.write(extent.data)
            return
        arrival = Arrival(self.position, extent, extent.file)
        self.arrivals.append(arrival)
        self._queue.put(arrival)
        source = self._source(extent.file)
        start, left = extent.start, extent.nbytes
        while left:
            count = self._copied(source, start, min(left, _PIECE))
            if not count:
                what = f"it is cut short: {extent.name or 'a tensor'!r} reaches beyond its end"
                raise CheckpointError(what, str(extent.file), "save or download it again")
            self._moved(count)
            start, left = start + count, left - count

    def finish(self) -> str:
        """Wait for the checks; return the file's SHA-256 in hexadecimal.

        Raises:
            CheckpointError: If a copy is not what its checksum or its source says.
        """
        self._end()
        self._checked.result()
        self._flushed.result()
        os.ftruncate(self._target, self.position)
        return self._digest.result()

    def _end(self) -> None:
        self._queue.put(None)
        self._front.end()

    def _source(self, file: Path) -> int:
        if file not in self._sources:
            self._sources[file] = os.open(file, os.O_RDONLY)
        return self._sources[file]

    def _copied(self, source: int, start: int, count: int) -> int:
        while True:
            try:
                return self._ways[0](self._target, source, start, count)
            except OSError as error:
                if error.errno not in _UNABLE or len(self._ways) == 1:
                    raise
                self._ways = self._ways[1:]

    def _moved(self, count: int) -> None:
        self.position += count
        self._front.advance(count)


def _reserve(target: int, nbytes: int) -> None:
    """Have the file system keep room for a file, so that a full disk is known before the work.

    Raises:
        OSError: If there is none.
    """
    room = os.fstatvfs(target)
    if nbytes > room.f_bavail * room.f_frsize:  # to try would fill the disk before it failed
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if not nbytes or sys.platform == "darwin":
        return
    try:
        os.posix_fallocate(target, 0, nbytes)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise

"""Write a file from ranges of other files, copied by the kernel and checked meanwhile."""

import errno
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from modswap.core.errors import CheckpointError
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.held import open_source
from modswap.io.raw.watching import Arrival, Front, check_behind, digest_behind, flush_behind

_COPIED_BYTES = 4 << 20  # copied at once by the kernel
_BLOCK_BYTES = 1 << 20  # copied at once through memory
# errors of a file system or a kernel that does not support a way of copying
_UNABLE = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)

Way = Callable[[int, int, int, int], int]  # target, source, start, count → bytes copied


def by_hand(target: int, source: int, start: int, count: int) -> int:
    """Copy through the memory of this process."""
    return os.write(target, os.pread(source, min(count, _BLOCK_BYTES), start))


WAYS: tuple[Way, ...] = (by_hand,)
if sys.platform == "linux":  # pragma: no branch - other systems have one way

    def by_range(target: int, source: int, start: int, count: int) -> int:
        """Copy inside the kernel; file systems that can share the blocks."""
        return os.copy_file_range(source, target, count, offset_src=start)

    def by_send(target: int, source: int, start: int, count: int) -> int:
        """Copy inside the kernel, also between file systems."""
        return os.sendfile(target, source, start, count)

    WAYS = (by_range, by_send, by_hand)


class Sink:
    """A new file that is written from front to back, while threads check it and hash it.

    Its final size is reserved on the disk at once. With `checksums`, copies are compared with the
    checksums of their sources; else, and for sources without checksums, with the bytes of the
    sources. The first of the `ways` to copy that works is used.

    Raises:
        OSError: If the disk has no room, or the system refuses to write.
    """

    def __init__(
        self, file: Path, nbytes: int, *, checksums: bool = True, ways: tuple[Way, ...] = WAYS
    ) -> None:
        self.position = 0
        self.arrivals: list[Arrival] = []
        self.sha256 = ""  # of the file in hexadecimal, after `finish`
        self.sums: list[int] = []  # CRC-32 of every arrival, after `finish`
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
        # each waits for the writer: with fewer threads one would block the others
        self._pool = ThreadPoolExecutor(3)
        submit, written = self._pool.submit, (self._target, self._front)
        self._digest = submit(digest_behind, *written)
        self._flushed = submit(flush_behind, *written)
        self._checked = submit(check_behind, *written, self._queue, checksums=checksums)

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._pool.shutdown(wait=True)
        for descriptor in (*self._sources.values(), self._target):
            os.close(descriptor)

    def write(self, data: bytes | memoryview) -> None:
        """Write bytes."""
        view = memoryview(data)
        while len(view):
            count = os.write(self._target, view[:_COPIED_BYTES])
            self._moved(count)
            view = view[count:]

    def copy(self, extent: ByteRange) -> None:
        """Copy a range of bytes.

        Raises:
            CheckpointError: If its file ends too early.
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
            count = self._copied(source, start, min(left, _COPIED_BYTES))
            if not count:
                what = f"it is cut short: {extent.name or 'a tensor'!r} reaches beyond its end"
                raise CheckpointError(what, str(extent.file), "save or download it again")
            self._moved(count)
            start, left = start + count, left - count

    def finish(self) -> str:
        """Wait for the checks; return the SHA-256 of the file in hexadecimal.

        Raises:
            CheckpointError: If a copy differs from its source or its checksum.
        """
        self._end()
        self.sums = self._checked.result()
        self._flushed.result()
        os.ftruncate(self._target, self.position)
        self.sha256 = self._digest.result()
        return self.sha256

    def _end(self) -> None:
        self._queue.put(None)
        self._front.end()

    def _source(self, file: Path) -> int:
        if file not in self._sources:
            self._sources[file] = open_source(file)
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
    """Reserve room for a file on the disk, so that a full disk is noticed before the work."""
    room = os.fstatvfs(target)
    # else the attempt would fill the disk before it fails
    if nbytes > room.f_bavail * room.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if not nbytes or sys.platform == "darwin":
        return
    try:
        os.posix_fallocate(target, 0, nbytes)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise

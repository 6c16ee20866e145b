"""Read a file while it is written: compute its digest and check every copy in it."""

import os
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from threading import Condition
from typing import NamedTuple

from modswap.core.errors import CheckpointError
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.held import open_source

_BLOCK_BYTES = 1 << 18  # read at once; they stay in the processor's cache
_FLUSH_BYTES = 256 << 20  # written between two flushes


class Arrival(NamedTuple):
    """A range of another file, and the offset of its copy in the new file."""

    start: int
    extent: ByteRange
    file: Path


class Front:
    """The number of bytes written so far; readers wait for more."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._reached = 0
        self._ended = False

    def advance(self, count: int) -> None:
        """Add bytes that were written."""
        with self._condition:
            self._reached += count
            self._condition.notify_all()

    def end(self) -> None:
        """Announce the end of the file."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def beyond(self, position: int) -> int:
        """Wait for bytes beyond a position, or for the end; return the number of bytes written."""
        with self._condition:
            self._condition.wait_for(lambda: self._reached > position or self._ended)
            return self._reached


def _blocks(descriptor: int, front: Front, start: int, end: int | None) -> Iterator[memoryview]:
    """Yield the bytes between two positions as they are written; a block is reused by the next."""
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    position = start
    while end is None or position < end:
        ready = front.beyond(position)
        if ready <= position:
            return
        until = ready if end is None else min(ready, end)
        while position < until:
            count = os.preadv(descriptor, [buffer[: min(_BLOCK_BYTES, until - position)]], position)
            position += count
            yield buffer[:count]


def digest_behind(descriptor: int, front: Front) -> str:
    """Return the SHA-256 of a file in hexadecimal, read while it is written."""
    digest = sha256()
    for block in _blocks(descriptor, front, 0, None):
        digest.update(block)
    return digest.hexdigest()


def flush_behind(descriptor: int, front: Front) -> None:
    """Flush a file to the disk while it is written, so that little is left at its end."""
    done = 0
    while (reached := front.beyond(done + _FLUSH_BYTES)) > done + _FLUSH_BYTES:
        os.fdatasync(descriptor)
        done = reached


def check_behind(
    descriptor: int, front: Front, arrivals: SimpleQueue[Arrival | None], *, checksums: bool
) -> list[int]:
    """Compare copies with their checksums, or with their sources, while a file is written.

    None ends the queue of the copies.

    Returns:
        The CRC-32 of each copy, in order; that of its source where the source has one.

    Raises:
        CheckpointError: If a copy differs.
    """
    sums = []
    while (arrival := arrivals.get()) is not None:
        known = arrival.extent.crc
        if known is not None and checksums:
            _compare_checksum(descriptor, front, arrival)
            sums.append(known)
        else:
            found = _compare_bytes(descriptor, front, arrival)
            sums.append(found if known is None else known)
    return sums


def _compare_checksum(descriptor: int, front: Front, arrival: Arrival) -> None:
    start, extent, _ = arrival
    crc, count = 0, 0
    for block in _blocks(descriptor, front, start, start + extent.nbytes):
        crc = zlib.crc32(block, crc)
        count += len(block)
    if count == extent.nbytes and crc != extent.crc:
        _compare_bytes(descriptor, front, arrival)  # raises if the copy differs, and not the source
        raise damaged(extent, crc)


def _compare_bytes(descriptor: int, front: Front, arrival: Arrival) -> int:
    """Compare a copy with its source; return its CRC-32 if its extent asks for it, else 0."""
    start, extent, file = arrival
    crc = 0
    source = open_source(file)
    try:
        position = extent.start
        for block in _blocks(descriptor, front, start, start + extent.nbytes):
            # bytes are compared at the speed of memory, views item by item
            if os.pread(source, len(block), position) != block.tobytes():
                what = f"the disk changed the bytes that were copied of {extent.name or 'a tensor'}"
                raise CheckpointError(what, str(file), "write to another disk")
            crc = zlib.crc32(block, crc) if extent.summed else 0
            position += len(block)
    finally:
        os.close(source)
    return crc


def damaged(extent: ByteRange, found: int) -> CheckpointError:
    """Return the error for bytes with another checksum than their record."""
    what = (
        f"its {extent.kind} {extent.name!r:.200} is damaged: its checksum is {extent.crc:08x}, "
        f"that of its bytes {found:08x}"
    )
    fix = "save or download it again; at your own risk: --no-checksum"
    return CheckpointError(what, str(extent.file), fix)

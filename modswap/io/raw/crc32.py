"""Compute the CRC-32 of many ranges of files in several threads.

CRC-32 because zips have it, zlib computes it without the interpreter's lock, and the CRC-32 of a
whole follows from those of its parts: a large tensor is read by several threads.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from modswap.core.errors import CheckpointError
from modswap.io.raw.byte_range import ByteRange

PART_BYTES = 32 << 20  # read by one thread at once
_BLOCK_BYTES = 1 << 18  # they stay in the processor's cache
_POLYNOMIAL, _ONE = 0xEDB88320, 1 << 31  # coefficients in reversed order, as zlib has them


class _Part(NamedTuple):
    """A part of a range, and the number of the range."""

    number: int
    start: int
    nbytes: int


def crc32s(
    ranges: Sequence[ByteRange], advance: Callable[[int], None] = lambda _: None
) -> list[int]:
    """Return the CRC-32 of every range; `advance` is given numbers of bytes as they are read.

    Raises:
        CheckpointError: If a file ends too early.
    """
    sums = [0] * len(ranges)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda parts: _summed(ranges, parts), _shares(ranges)):
            for part, crc in found:
                sums[part.number] = combined(sums[part.number], crc, part.nbytes)
            advance(sum(part.nbytes for part, _ in found))
    return sums


def _shares(ranges: Iterable[ByteRange]) -> Iterator[list[_Part]]:
    """Yield the parts that one thread reads, those of small ranges together."""
    share: list[_Part] = []
    room = PART_BYTES
    for number, held in enumerate(ranges):
        start, end = 0, held.nbytes
        while start < end:
            count = min(end - start, room)
            share.append(_Part(number, start, count))
            start, room = start + count, room - count
            if not room:
                yield share
                share, room = [], PART_BYTES
    yield share


def _summed(ranges: Sequence[ByteRange], parts: Sequence[_Part]) -> list[tuple[_Part, int]]:
    """Return the CRC-32 of every part; it is in a file or in memory."""
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    opened: dict[Path, int] = {}
    try:
        return [(part, _sum(ranges[part.number], part, buffer, opened)) for part in parts]
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _sum(held: ByteRange, part: _Part, buffer: memoryview, opened: dict[Path, int]) -> int:
    if held.file is None:
        return zlib.crc32(memoryview(held.data)[part.start : part.start + part.nbytes])
    if held.file not in opened:
        opened[held.file] = os.open(held.file, os.O_RDONLY)
    crc, position, left = 0, held.start + part.start, part.nbytes
    while left:
        count = os.preadv(opened[held.file], [buffer[: min(left, len(buffer))]], position)
        if not count:
            what = f"it is cut short: {held.name or 'a tensor'!r} reaches beyond its end"
            raise CheckpointError(what, str(held.file), "save or download it again")
        crc = zlib.crc32(buffer[:count], crc)
        position, left = position + count, left - count
    return crc


def combined(first: int, second: int, nbytes: int) -> int:
    """Return the CRC-32 of two byte strings one after the other; the second has `nbytes` bytes."""
    return (_product(_power(nbytes), first) if first else 0) ^ second


@lru_cache(maxsize=64)
def _power(nbytes: int) -> int:
    """Return x to the power of the number of bits, modulo the polynomial."""
    power, square = _ONE, _ONE >> 8
    while nbytes:
        if nbytes & 1:
            power = _product(power, square)
        square = _product(square, square)
        nbytes >>= 1
    return power


def _product(a: int, b: int) -> int:
    """Return the product of two polynomials modulo the polynomial."""
    total = 0
    while a:
        if a & _ONE:
            total ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return total

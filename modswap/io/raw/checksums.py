"""Compare the bytes of a torch zip with its checksums; torch does not."""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.torch_zip_layout import read_archive
from modswap.io.raw.watching import damaged
from modswap.io.recognise.look import Look

UNKNOWN = "it was written without checksums: a damaged byte in its weights would not be noticed"
_BLOCK_BYTES = 4 << 20


def without_checksums(look: Look) -> bool:
    """Return whether a torch zip was written without checksums."""
    records = read_archive(look.file).records.items()
    weights = [held for name, held in records if name.startswith("data/") and held.nbytes]
    return bool(weights) and all(held.crc is None for held in weights)


def compare_checksums(look: Look) -> None:
    """Compare every record of a torch zip with its checksum; skip a zip without checksums.

    Raises:
        CheckpointError: If a record is damaged.
    """
    if without_checksums(look):
        return
    records = [held for held in read_archive(look.file).records.values() if held.nbytes]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib releases the lock of the interpreter
        sums = pool.map(lambda held: _sum(look.file, held.start, held.nbytes), records)
        for held, found in zip(records, sums, strict=True):
            if found != (held.crc or 0):
                raise damaged(replace(held, crc=held.crc or 0), found)


def _sum(file: Path, start: int, nbytes: int) -> int:
    """Return the CRC-32 of bytes of a file, read block by block."""
    crc = 0
    with file.open("rb", buffering=0) as stream:
        stream.seek(start)
        while nbytes and (block := stream.read(min(nbytes, _BLOCK_BYTES))):
            crc = zlib.crc32(block, crc)
            nbytes -= len(block)
    return crc


def with_checksum(held: ByteRange) -> ByteRange:
    """Return a range of a file with its checksum, computed from the bytes where it has none."""
    if held.file is None or held.crc is not None:
        return held
    return replace(held, crc=_sum(held.file, held.start, held.nbytes))

"""Compare the bytes of a torch zip with its checksums; torch does not."""

import os
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.watching import damaged
from modswap.io.recognise.look import Look

UNKNOWN = "it was written without checksums: a damaged byte in its weights would not be noticed"
_BLOCK_BYTES = 4 << 20
_HEADER_BYTES = 30  # of a zip entry, before its name


def without_checksums(look: Look) -> bool:
    """Return whether a torch zip was written without checksums."""
    with zipfile.ZipFile(look.file) as archive:
        data = [e for e in archive.infolist() if "/data/" in e.filename and e.file_size]
    return bool(data) and not any(entry.CRC for entry in data)


def compare_checksums(look: Look) -> None:
    """Compare every record of a torch zip with its checksum; skip a zip without checksums.

    Raises:
        CheckpointError: If a record is damaged.
    """
    if without_checksums(look):
        return
    with zipfile.ZipFile(look.file) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib releases the lock of the interpreter
        sums = pool.map(lambda entry: _checksum(look.file, entry), entries)
        for entry, found in zip(entries, sums, strict=True):
            if found != entry.CRC:
                held = ByteRange(entry.file_size, look.file, crc=entry.CRC, name=entry.filename)
                raise damaged(held, found)


def _checksum(file: Path, entry: zipfile.ZipInfo) -> int:
    """Return the CRC-32 of an entry's bytes."""
    with file.open("rb") as stream:
        stream.seek(entry.header_offset)
        # padded: the checksum of a file that is cut short differs anyway
        header = stream.read(_HEADER_BYTES).ljust(_HEADER_BYTES, b"\0")
    name, extra = struct.unpack("<HH", header[26:])
    return _sum(file, entry.header_offset + _HEADER_BYTES + name + extra, entry.file_size)


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

"""Comparing the bytes of a torch zip with its checksums, which torch itself does not."""

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
_BLOCK = 4 << 20
_LOCAL = 30  # bytes of a zip entry's own header, before its name


def without_checksums(look: Look) -> bool:
    """Return whether a torch zip was written without checksums.

    Args:
        look: The file.
    """
    with zipfile.ZipFile(look.file) as archive:
        data = [e for e in archive.infolist() if "/data/" in e.filename and e.file_size]
    return bool(data) and not any(entry.CRC for entry in data)


def compare_checksums(look: Look) -> None:
    """Compare every record of a torch zip with its checksum, if it has any.

    Args:
        look: The file.

    Raises:
        CheckpointError: If a record is damaged.
    """
    if without_checksums(look):
        return
    with zipfile.ZipFile(look.file) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib lets go of the interpreter
        sums = pool.map(lambda entry: _checksum(look.file, entry), entries)
        for entry, found in zip(entries, sums, strict=True):
            if found != entry.CRC:
                extent = ByteRange(entry.file_size, look.file, crc=entry.CRC, name=entry.filename)
                raise damaged(extent, found)


def _checksum(file: Path, entry: zipfile.ZipInfo) -> int:
    """Return the CRC-32 of an entry's bytes."""
    with file.open("rb") as stream:
        stream.seek(entry.header_offset)
        header = stream.read(_LOCAL).ljust(_LOCAL, b"\0")  # cut short, it sums up to something else
    name, extra = struct.unpack("<HH", header[26:])
    return _sum(file, entry.header_offset + _LOCAL + name + extra, entry.file_size)


def _sum(file: Path, start: int, nbytes: int) -> int:
    """Return the CRC-32 of bytes, read block by block."""
    crc = 0
    with file.open("rb", buffering=0) as stream:
        stream.seek(start)
        while nbytes and (block := stream.read(min(nbytes, _BLOCK))):
            crc = zlib.crc32(block, crc)
            nbytes -= len(block)
    return crc


def with_checksum(extent: ByteRange) -> ByteRange:
    """Return an extent of a file with its checksum, read from its bytes where it has none."""
    if extent.file is None or extent.crc is not None:
        return extent
    return replace(extent, crc=_sum(extent.file, extent.start, extent.nbytes))

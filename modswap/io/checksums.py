"""Comparing the bytes of a torch zip with its checksums, which torch itself does not."""

import os
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modswap.io.recognise import Look

UNKNOWN = "it was written without checksums: a damaged byte in its weights would not be noticed"
_BLOCK = 4 << 20
_LOCAL = 30  # bytes of a zip entry's own header, before its name


def compare_checksums(look: Look) -> tuple[str, ...]:
    """Compare every record of a torch zip with its checksum; return what is worth telling.

    Args:
        look: The file.

    Raises:
        CheckpointError: If a record is damaged.
    """
    with zipfile.ZipFile(look.file) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size]
    data = [entry for entry in entries if "/data/" in entry.filename]
    if data and not any(entry.CRC for entry in data):
        return (UNKNOWN,)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib lets go of the interpreter
        sums = pool.map(lambda entry: _checksum(look.file, entry), entries)
        for entry, found in zip(entries, sums, strict=True):
            if found != entry.CRC:
                what = (
                    f"its record {entry.filename!r} is damaged: its checksum is {entry.CRC:08x}, "
                    f"that of its bytes {found:08x}"
                )
                raise look.error(what, "save or download it again; at your own risk: --no-checksum")
    return ()


def _checksum(file: Path, entry: zipfile.ZipInfo) -> int:
    """Return the CRC-32 of an entry's bytes, read block by block."""
    with file.open("rb", buffering=0) as stream:
        stream.seek(entry.header_offset)
        header = stream.read(_LOCAL).ljust(_LOCAL, b"\0")  # cut short, it sums up to something else
        name, extra = struct.unpack("<HH", header[26:])
        stream.seek(name + extra, os.SEEK_CUR)
        left, crc = entry.file_size, 0
        while left and (block := stream.read(min(left, _BLOCK))):
            crc = zlib.crc32(block, crc)
            left -= len(block)
    return crc

"""Refuse a zip that two readers could read in two ways.

A file is checked with Python's reader and loaded with torch's. Both must see the same entries, so
these are refused: bytes around the zip, entries that overlap, sizes and offsets beyond the file.
"""

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipInfo

_END, _LOCATOR = struct.Struct("<4sHHHHIIH"), struct.Struct("<4sIQI")
_WIDE = struct.Struct("<4sQHHIIQQQQ")
_HEADER_BYTES = 30  # of an entry, before its name
_ENCRYPTED, _UTF_8 = 0x1 | 0x40, 0x800
_UNSAFE = re.compile(r"^/|(^|/)\.\.?(/|$)|\x00")
_AGAIN = "save or download it again"
UNSOUND = "do not use it: programs would read different tensors"


def flaw(file: Path, size: int, entries: Sequence[ZipInfo]) -> tuple[str, str] | None:
    """Return the flaw of a torch zip of `size` bytes and advice; None for a sound zip."""
    return _end_flaw(file, size, len(entries)) or _name_flaw(entries) or _place_flaw(size, entries)


def _end_flaw(file: Path, size: int, count: int) -> tuple[str, str] | None:
    """Return the flaw of the end of a zip, after its entries."""
    length = _WIDE.size + _LOCATOR.size + _END.size
    with file.open("rb") as stream:
        stream.seek(max(size - length, 0))
        tail = stream.read().rjust(length, b"\0")
    mark, *_, said, listed, start, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\5\6" or comment:
        return "bytes follow the end of its zip", UNSOUND
    end = size - _END.size
    locator, _, place, _ = _LOCATOR.unpack(tail[_WIDE.size : -_END.size])
    if locator == b"PK\6\7":
        end = size - length
        wide, *_, said, listed, start = _WIDE.unpack(tail[: _WIDE.size])
        if place != end or wide != b"PK\6\6":
            return "it is damaged: the end of its zip is not where it should be", _AGAIN
    if start + listed != end:
        return "it is damaged: its zip's directory is not where it should be", _AGAIN
    if said != count:
        return f"it is damaged: its zip says {said:,} entries and lists {count:,}", _AGAIN
    return None


def _name_flaw(entries: Sequence[ZipInfo]) -> tuple[str, str] | None:
    for entry in entries:
        # Python cuts a name at a zero byte, and keeps the original
        if _UNSAFE.search(entry.orig_filename):
            return f"an entry of its zip has an unsafe name: {entry.orig_filename!r}", (
                "do not use it: it was not made by torch.save"
            )
    roots = sorted({entry.filename.partition("/")[0] for entry in entries})
    if len(roots) > 1:
        return f"its zip holds more than one folder: {roots[0]!r} and {roots[1]!r}", UNSOUND
    return None


def _place_flaw(size: int, entries: Sequence[ZipInfo]) -> tuple[str, str] | None:
    previous, reached = "", 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = repr(entry.filename)
        if entry.flag_bits & _ENCRYPTED:
            return f"an entry of its zip is encrypted: {name}", _AGAIN
        if entry.compress_type != ZIP_STORED:
            # a reader that maps the file takes compressed bytes for weights
            what = "its tensors are compressed inside the zip, which torch.save does not do"
            return what, "load it where it was made and save it again"
        if entry.compress_size != entry.file_size:
            return f"it is damaged: its zip gives {name} two sizes", _AGAIN
        if entry.header_offset < reached:
            return f"two entries of its zip overlap: {previous} and {name}", UNSOUND
        named = len(entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF_8 else "cp437"))
        previous, reached = name, entry.header_offset + _HEADER_BYTES + named + entry.file_size
        if reached > size:
            return f"it is cut short: {name} of its zip ends beyond the file", _AGAIN
    return None

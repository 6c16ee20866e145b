"""Refuse a zip that two readers could read in two ways.

A file is checked with Python's reader and loaded with torch's. Both must see the same entries, so
these are refused: bytes around the zip or between its entries, entries that overlap or share a
name, headers that disagree with the directory, sizes and offsets beyond the file.
"""

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize
from zipfile import ZIP_STORED, ZipInfo

from modswap.io.recognise.zip_headers import first_flaw, listed_name

_END, _LOCATOR = struct.Struct("<4sHHHHIIH"), struct.Struct("<4sIQI")
_WIDE = struct.Struct("<4sQHHIIQQQQ")
_HEADER_BYTES = 30  # of an entry, before its name
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_KNOWN = 0x8 | 0x800 | 0x6  # sizes behind the bytes, names in UTF-8, degrees of compression
_FULL_32, _FULL_16 = 0xFFFFFFFF, 0xFFFF
_UNSAFE = re.compile(r"^/|(^|/)\.\.?(/|$)|[\x00\\]|//")
_AGAIN = "save or download it again"
UNSOUND = "do not use it: programs would read different tensors"


def shared_name(entries: Sequence[ZipInfo]) -> str:
    """Return a name that two entries have for some reader; empty if there is none.

    torch ignores upper and lower case, and compares the bytes of names in any encoding;
    file systems may take two spellings of a character for one.
    """
    first: dict[str | bytes, ZipInfo] = {}
    for entry in entries:
        name = normalize("NFC", entry.filename.casefold()).rstrip("/")
        for form in (name, listed_name(entry).lower()):
            if first.setdefault(form, entry) is not entry:
                return first[form].filename
    return ""


def flaw(
    file: Path, size: int, entries: Sequence[ZipInfo], directory: int
) -> tuple[str, str] | None:
    """Return the flaw of a torch zip and advice; None for a sound zip.

    The zip has `size` bytes, and its directory begins at `directory`.
    """
    early = _end_flaw(file, size, len(entries)) or _name_flaw(entries)
    if found := early or _place_flaw(size, entries):
        return found
    with file.open("rb", buffering=0) as stream:
        name, what = first_flaw(stream, directory, entries)
    where = f"the entry {name!r} of its zip" if name else "its zip's"
    return (f"{where} {what}", UNSOUND) if what else None


def _end_flaw(file: Path, size: int, count: int) -> tuple[str, str] | None:
    """Return the flaw of the end of a zip, after its entries."""
    length = _WIDE.size + _LOCATOR.size + _END.size
    with file.open("rb") as stream:
        stream.seek(max(size - length, 0))
        tail = stream.read().rjust(length, b"\0")
    mark, *disks, on_disk, said, listed, start, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\5\6" or comment:
        return "bytes follow the end of its zip", UNSOUND
    end = size - _END.size
    locator, disk, place, count_of_disks = _LOCATOR.unpack(tail[_WIDE.size : -_END.size])
    if locator == b"PK\6\7":
        end, narrow = size - length, (on_disk, said, listed, start)
        wide, *_, first, last, on_disk, said, listed, start = _WIDE.unpack(tail[: _WIDE.size])
        if place != end or wide != b"PK\6\6":
            return "it is damaged: the end of its zip is not where it should be", _AGAIN
        disks += [disk, first, last, count_of_disks - 1]
        if _differ(narrow, (on_disk, said, listed, start)):
            return "the two ends of its zip disagree", UNSOUND
    if any(disks) or on_disk != said:
        return "its zip is a part of several", UNSOUND
    what = ""
    if start + listed != end:
        what = "its zip's directory is not where it should be"
    elif said != count:
        what = f"its zip says {said:,} entries and lists {count:,}"
    return (f"it is damaged: {what}", _AGAIN) if what else None


def _differ(narrow: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    """Return whether the first end of a zip has other numbers than the second, which is larger."""
    full = (_FULL_16, _FULL_16, _FULL_32, _FULL_32)
    return any(n not in (w, none) for n, w, none in zip(narrow, wide, full, strict=True))


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
        if found := _kind_flaw(entry, name):
            return found
        if entry.header_offset < reached:
            return f"two entries of its zip overlap: {previous} and {name}", UNSOUND
        named = len(listed_name(entry))
        previous, reached = name, entry.header_offset + _HEADER_BYTES + named + entry.file_size
        if reached > size:
            return f"it is cut short: {name} of its zip ends beyond the file", _AGAIN
    return None


def _kind_flaw(entry: ZipInfo, name: str) -> tuple[str, str] | None:
    if entry.flag_bits & _ENCRYPTED:
        return f"an entry of its zip is encrypted: {name}", _AGAIN
    if entry.compress_type != ZIP_STORED:
        # a reader that maps the file takes compressed bytes for weights
        what = "its tensors are compressed inside the zip, which torch.save does not do"
        return what, "load it where it was made and save it again"
    if entry.flag_bits & ~_KNOWN:
        return f"an entry of its zip has flags that no reader takes: {name}", UNSOUND
    if entry.compress_size != entry.file_size:
        return f"it is damaged: its zip gives {name} two sizes", _AGAIN
    return None

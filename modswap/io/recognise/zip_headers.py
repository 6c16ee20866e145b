"""Compare the header in front of each entry of a zip with the zip's directory.

Some readers go by the directory, others by these headers; both must see the same entries, one
behind the other and without bytes between them.
"""

import struct
from collections.abc import Sequence
from typing import IO, NamedTuple
from zipfile import ZipInfo

_HEADER = struct.Struct("<IHHHHHIIIHH")
_MARK, _FULL_32 = 0x04034B50, 0xFFFFFFFF
_WIDE_FIELD, _UNICODE_PATH = 0x0001, 0x7075  # extra fields: sizes of 64 bits, a second name
_UTF_8, LATER = 0x800, 0x8  # flags; `LATER`: checksum and sizes follow the bytes
_NO_MATTER = _UTF_8 | 0x6  # flags that change nothing of bytes that are not compressed
_DESCRIPTORS = (struct.Struct("<4sIII"), struct.Struct("<4sIQQ"))
_MAX_DESCRIPTOR_BYTES = 24
_EARLY_BYTES = 192  # of the extra fields that are read with the header; torch aligns to 64


class _Header(NamedTuple):
    """The header in front of an entry; it ends where the entry's bytes begin."""

    flags: int
    method: int
    crc: int
    packed: int
    size: int
    name: bytes
    extra: bytes
    end: int


def listed_name(entry: ZipInfo) -> bytes:
    """Return the bytes of an entry's name in the directory."""
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF_8 else "cp437")


def first_flaw(stream: IO[bytes], directory: int, entries: Sequence[ZipInfo]) -> tuple[str, str]:
    """Return the name of the first entry that is not as listed, and its flaw in words.

    `directory` is the offset of the directory; the name is empty for a flaw in front of it. Both
    texts are empty if there is no flaw.
    """
    previous: ZipInfo | None = None
    reached = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if found := _gap_flaw(stream, reached, entry.header_offset, previous):
            return entry.filename, found
        header = _read(stream, entry.header_offset, len(listed_name(entry)))
        if header is None:
            return entry.filename, "has no header"
        if wrong := _disagreement(header, entry):
            return entry.filename, f"has another {wrong} in its own header"
        previous, reached = entry, header.end + entry.file_size
    if previous is None:
        return "", ""
    found = _gap_flaw(stream, reached, directory, previous)
    return ("", f"directory {found}") if found else ("", "")


def _gap_flaw(stream: IO[bytes], start: int, end: int, previous: ZipInfo | None) -> str:
    """Return the flaw of the bytes behind an entry: none, or its checksum and sizes."""
    if start > end:
        return "overlaps with the entry before it, or with the directory"
    if previous is None or not previous.flag_bits & LATER:
        return "follows bytes that are no entry" if start < end else ""
    if start == end:
        return ""
    if end - start > _MAX_DESCRIPTOR_BYTES:
        return "follows bytes that are no entry"
    stream.seek(start)
    found = stream.read(end - start)
    sizes = (previous.compress_size, previous.file_size)
    crc = found[4:8] if not previous.CRC else struct.pack("<I", previous.CRC)
    for form in _DESCRIPTORS:
        try:
            if found == form.pack(b"PK\7\x08", int.from_bytes(crc, "little"), *sizes):
                return ""
        except struct.error:  # sizes of 64 bits
            continue
    return "follows a checksum or a size that its directory does not have"


def _read(stream: IO[bytes], start: int, name_bytes: int) -> _Header | None:
    stream.seek(start)
    data = stream.read(_HEADER.size + name_bytes + _EARLY_BYTES).ljust(_HEADER.size, b"\0")
    mark, _, flags, method, _, _, crc, packed, size, named, more = _HEADER.unpack_from(data)
    length = _HEADER.size + named + more
    if length > len(data):
        data += stream.read(length - len(data))
    if mark != _MARK or length > len(data):
        return None
    name, extra = data[_HEADER.size : _HEADER.size + named], data[_HEADER.size + named : length]
    return _Header(flags, method, crc, packed, size, name, extra, start + length)


def _disagreement(header: _Header, entry: ZipInfo) -> str:
    """Return what differs between a header and the directory; empty if nothing does."""
    name = listed_name(entry)
    if header.name != name:
        return "name"
    if header.method != entry.compress_type:
        return "method"
    if (header.flags ^ entry.flag_bits) & ~_NO_MATTER:
        return "set of flags"
    own, listed = _fields(header.extra), _fields(entry.extra)
    if own is None or listed is None:
        return "form"
    if any(_other_name(fields, entry) for fields in (own, listed)):
        return "name"
    said = (header.crc, *_sizes(header, own))
    known = (entry.CRC, entry.compress_size, entry.file_size)
    later = header.flags & LATER
    same = all(a == b or (later and not a) for a, b in zip(said, known, strict=True))
    return "" if same else "size or checksum"


def _fields(extra: bytes) -> dict[int, bytes] | None:
    """Return extra fields by their numbers; None if they are malformed, or one comes twice."""
    found: dict[int, bytes] = {}
    while len(extra) >= 4:
        number, length = struct.unpack_from("<HH", extra)
        if number in found or length > len(extra) - 4:
            return None
        found[number], extra = extra[4 : 4 + length], extra[4 + length :]
    return None if extra else found


def _other_name(fields: dict[int, bytes], entry: ZipInfo) -> bool:
    """Return whether an extra field gives an entry another name, which some readers take."""
    field = fields.get(_UNICODE_PATH)  # a version, a checksum, the name
    return field is not None and field[5:].decode("utf-8", "replace") != entry.orig_filename


def _sizes(header: _Header, fields: dict[int, bytes]) -> tuple[int, int]:
    """Return the packed and the unpacked size that a header gives."""
    if _FULL_32 not in (header.packed, header.size):
        return header.packed, header.size
    wide = fields.get(_WIDE_FIELD, b"").ljust(16, b"\0")
    size, packed = struct.unpack_from("<QQ", wide)
    return packed, size

"""Zips whose entries are not as the directory lists them, one of each kind, and sound ones."""

import struct
import zipfile
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from modswap.core.errors import CheckpointError
from modswap.io.recognise import zip_headers
from modswap.io.recognise.look import look_at
from modswap.io.recognise.zip_headers import first_flaw
from tests.io.corpus.raw import Entry, entries_of, records_of, zipped

ENTRIES = entries_of(records_of("weights"))
FIRST, *REST = ENTRIES
WHOLE = zipped(ENTRIES)
FULL = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF}


def changed(**changes: Any) -> bytes:
    """Return the sound zip with a change of its first entry."""
    return zipped([replace(FIRST, **changes), *REST])


def path(name: str) -> bytes:
    """Return the extra field with a second name of the first entry."""
    second = name.encode()
    start = struct.pack("<HHBI", 0x7075, 5 + len(second), 1, zlib.crc32(FIRST.name.encode()))
    return start + second


def wide(*sizes: int) -> bytes:
    return struct.pack(f"<HH{len(sizes)}Q", 1, 8 * len(sizes), *sizes)


def followed(*numbers: int, form: str = "<4sIII") -> bytes:
    """Return the sound zip with checksum and sizes behind the bytes of its first entry."""
    own = {"crc": 0, "size": 0, "packed": 0}
    return changed(flags=0x808, own=own, after=struct.pack(form, b"PK\7\x08", *numbers))


def apart(front: bytes = b"", back: bytes = b"") -> bytes:
    """Return the sound zip with bytes in front of its entries and of its directory."""
    body, lines = front, b""
    for entry in ENTRIES:
        own, line = entry.headers(len(body))
        body += own + entry.data
        lines += line
    body += back
    count = len(ENTRIES)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(lines), len(body), 0)
    return body + lines + end


def patched(more: int, at: int, data: bytes) -> bytes:
    """Return the zip, its first header with an extra field of some bytes, with others in it."""
    extra = b"FB" + struct.pack("<H", 400)
    content = bytearray(changed(own_extra=extra[:more]))
    content[at : at + len(data)] = data
    return bytes(content)


SECOND = WHOLE.index(b"PK\3\4", 1)  # where the header of the second entry begins
CRC, SIZE = zlib.crc32(FIRST.data), len(FIRST.data)
HIDDEN = Entry(FIRST.name, b"hidden").headers(0)[0] + b"hidden"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (changed(local="net/date.pkl"), "another name in its own header"),
        (changed(local="net/data.pkl" + "x" * 400), "another name in its own header"),
        (changed(own={"method": 8}), "another method"),
        (changed(own={"flags": 1}), "another set of flags"),
        (changed(own={"flags": 8}), "another set of flags"),
        (changed(own={"crc": 7}), "another size or checksum"),
        (changed(own={"size": 1}), "another size or checksum"),
        (changed(own={"packed": 1}), "another size or checksum"),
        (changed(own=FULL), "another size or checksum"),
        (changed(own=FULL, own_extra=wide(5, 5)), "another size or checksum"),
        (changed(own_extra=b"FB\xff\0Z"), "another form"),
        (changed(own_extra=b"FB\0"), "another form"),
        (changed(extra=b"FB\0\0FB\0\0"), "another form"),
        (changed(extra=path("net/else.pkl")), "another name"),
        (changed(extra=path("../canary")), "another name"),
        (changed(own_extra=path("net/else.pkl")), "another name"),
        (changed(own_extra=b"\x75\x70\0\0"), "another name"),
        (followed(7, SIZE, SIZE), "follows a checksum or a size that its directory does not have"),
        (followed(CRC, SIZE, 7), "follows a checksum or a size that its directory does not have"),
        (changed(flags=8, after=b"abcd"), "follows a checksum or a size"),
        (changed(flags=8, after=bytes(25)), "follows bytes that are no entry"),
        (changed(after=b"x"), "follows bytes that are no entry"),
        (apart(front=b"PK\3\4" + bytes(60)), "'net/data.pkl' of its zip follows bytes that are no"),
        (apart(front=HIDDEN), "'net/data.pkl' of its zip follows bytes that are no entry"),
        (apart(back=HIDDEN), "its zip's directory follows bytes that are no entry"),
        (patched(0, SECOND, b"PX"), "has no header"),
        (patched(4, 28, struct.pack("<H", 404)), "overlaps with the entry before it"),
        (zipped([*ENTRIES, Entry("net/x", b"", flags=0x20)]), "flags that no reader takes"),
        (zipped([*ENTRIES, Entry("net\\x", b"")]), "unsafe name"),
        (zipped([*ENTRIES, Entry("net//x", b"")]), "unsafe name"),
        (zipped([*ENTRIES, Entry("net/data.pkl/", b"")]), "have one name: 'net/data.pkl'"),
        (
            zipped([*ENTRIES, Entry("net/é", b"", flags=0x800), Entry("net/é", b"")]),
            "have one name: 'net/é'",  # torch compares the bytes, in any encoding
        ),
        (
            zipped([*ENTRIES, Entry("net/\udc82", b""), Entry("net/é", b"", flags=0x800)]),
            "have one name: 'net/é'",  # one in the encoding of MS-DOS
        ),
        (
            zipped([*ENTRIES, *(Entry(f"net/{e}", b"", flags=0x800) for e in ("é", "e\u0301"))]),
            "have one name: 'net/é'",
        ),
        (WHOLE[:-18] + struct.pack("<HH", 1, 1) + WHOLE[-14:], "a part of several"),
    ],
)
def test_entry_that_is_not_as_listed_is_refused(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)

    with pytest.raises(CheckpointError) as raised:
        look_at(tmp_path / "net.pt")

    assert what in raised.value.what
    assert raised.value.fix


@pytest.mark.parametrize(
    "content",
    [
        WHOLE,
        changed(own=FULL, own_extra=wide(SIZE, SIZE)),
        changed(own_extra=b"FB" + struct.pack("<H", 300) + b"Z" * 300),
        changed(extra=path(FIRST.name), own_extra=path(FIRST.name)),
        changed(comment=b"PK\3\4"),
        changed(flags=8),
        followed(CRC, SIZE, SIZE),
        followed(CRC, SIZE, SIZE, form="<4sIQQ"),
        zipped([*ENTRIES, Entry("net/data/", b"")]),
    ],
)
def test_sound_zip_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)

    assert "net/data.pkl" in look_at(tmp_path / "net.pt").names


def test_zips_of_torch_are_read_without_data_and_without_checksums(tmp_path: Path) -> None:
    payload = {"a": torch.zeros(300), "b": torch.zeros(0), "é": torch.ones(3)}
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        torch.save(payload, tmp_path / "unsummed.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    with torch.serialization.skip_data():
        torch.save(payload, tmp_path / "empty.pt")

    for name in ("unsummed.pt", "empty.pt"):
        assert len(look_at(tmp_path / name).names) > 5


def test_sizes_beyond_32_bits_have_a_descriptor_of_their_own() -> None:
    """A file of 4 GiB is not written for it."""
    entry = zipfile.ZipInfo("net/x")
    entry.flag_bits, entry.CRC, entry.file_size, entry.compress_size = 8, 7, 1 << 33, 1 << 33
    held = struct.pack("<4sIQQ", b"PK\7\x08", 7, 1 << 33, 1 << 33)

    gap = zip_headers._gap_flaw

    assert gap(BytesIO(held), 0, len(held), entry) == ""
    assert "a size" in gap(BytesIO(held[:-1] + b"\1"), 0, len(held), entry)


def test_zip_without_entries_has_no_flaw_and_one_cut_in_a_header_has() -> None:
    entry = zipfile.ZipInfo("net/x")
    entry.header_offset = 0

    assert first_flaw(BytesIO(b""), 0, []) == ("", "")
    assert first_flaw(BytesIO(b"PK"), 2, [entry]) == ("net/x", "has no header")

"""Zips of `torch.save` that are damaged, or made to be read in two ways."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

from tests.io.corpus.case import FILE, Case
from tests.io.corpus.raw import Entry, bare, bomb, entries_of, records_of, torch_zip, zipped

ENTRIES = entries_of(records_of("module"))
WHOLE = zipped(ENTRIES)
DATA = next(entry for entry in ENTRIES if entry.name == "net/data/0")
PICKLE = next(entry for entry in ENTRIES if entry.name == "net/data.pkl")
# what is looked at only when weights are read
LATE = {"tree": 0, "check": 0}


def changed(old: Entry, **changes: object) -> bytes:
    """Return the sound file with one entry changed."""
    new = replace(old, **changes)  # type: ignore[arg-type] # of any kind
    return zipped([new if entry is old else entry for entry in ENTRIES])


def without(name: str) -> bytes:
    """Return the sound file without an entry."""
    return zipped(entry for entry in ENTRIES if entry.name != name)


def flipped(data: bytes, position: int, bit: int = 1) -> bytes:
    """Return data with one bit the other way."""
    return data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]


def _bomb(mib: int, old: Entry) -> bytes:
    return changed(old, data=bomb(mib), method=8, size=mib << 20)


def _sparse(folder: Path) -> None:
    with (folder / "net.pt").open("wb") as stream:
        stream.truncate(1 << 40)
        stream.write(b"PK\3\4")


def many_entries(folder: Path) -> None:
    """Write a file of more entries than the end of a zip can count."""
    more = (Entry(f"net/{n}", b"") for n in range(70_000))
    (folder / FILE).write_bytes(zipped([*ENTRIES, *more], count=0xFFFF))


def _zip64(extra: bytes, **changes: int) -> bytes:
    return changed(DATA, extra=extra, **changes)


SECOND = struct.pack("<HHBI", 0x7075, 17, 1, zlib.crc32(b"net/data/0")) + b"../../canary"
AT_DATA = WHOLE.index(DATA.data)
AT_PICKLE = WHOLE.index(PICKLE.data)
AT_LIST = WHOLE.index(b"PK\1\2")
AT_END = WHOLE.index(b"PK\5\6")
CUT = "it is damaged or cut short"
MISPLACED = "its zip's directory is not where it should be"
AGAIN = "save or download it again"

CASES = (
    Case("bit flip in a tensor", flipped(WHOLE, AT_DATA + 5), "its checksum is", codes=LATE),
    Case("bit flip in the pickle", flipped(WHOLE, AT_PICKLE + 40), "it is damaged"),
    Case("bit flip in the directory's mark", flipped(WHOLE, AT_LIST), CUT),
    Case(
        "bit flip in a name of the directory",
        flipped(WHOLE, AT_LIST + 52, 2),
        "none that torch.save wrote",
    ),
    Case("bit flip in the end", flipped(WHOLE, AT_END + 17, 64), MISPLACED),
    Case("bit flip in an entry's own header", flipped(WHOLE, AT_PICKLE - 40), "error"),
    Case("no end", WHOLE[:AT_END], CUT),
    Case("no directory", WHOLE[:AT_LIST], CUT),
    Case(
        "hole full of zeros",
        WHOLE[:AT_DATA] + bytes(864) + WHOLE[AT_DATA + 864 :],
        "its checksum is",
        codes=LATE,
    ),
    Case("two entries of one name", zipped([*ENTRIES, DATA]), "two entries of its zip"),
    Case("two pickles of one name", zipped([PICKLE, *ENTRIES]), "two entries of its zip"),
    Case(
        "names that differ in case",
        zipped([*ENTRIES, replace(PICKLE, name="net/DATA.PKL")]),
        "two entries of its zip",
    ),
    Case("two roots", zipped([*ENTRIES, *entries_of(records_of("weights"), "other")]), "error"),
    Case("name that climbs out", zipped([*ENTRIES, Entry("../canary", b"x")]), "error"),
    Case("root that climbs out", zipped(entries_of(records_of("module"), "..")), "error"),
    Case("absolute name", zipped([*ENTRIES, Entry("/canary", b"x")]), "error"),
    Case("name with a zero byte", zipped([*ENTRIES, Entry("net/data/0\0x", b"x")]), "error"),
    Case(
        "name that is no text",
        zipped([*ENTRIES, Entry("net/\udcff\udcfe", b"x")]),
        "error",
        codes={"tree": 0},
    ),
    Case("pickle under another name of its own", changed(PICKLE, local="net/date.pkl"), "error"),
    Case("entries more than there are", zipped(ENTRIES, count=9999), "error"),
    Case("entries fewer than there are", zipped(ENTRIES, count=3), "error"),
    Case("directory beyond the file", zipped(ENTRIES, at=1 << 31), MISPLACED),
    Case("directory at the start", zipped(ENTRIES, at=0), "error"),
    Case("entry beyond the file", changed(DATA, start=0x7FFFFFFF), "error"),
    Case("pickle beyond the file", changed(PICKLE, start=0x7FFFFFFF), "error"),
    Case("entry larger than the file", changed(DATA, size=1 << 30, packed=1 << 30), "error"),
    Case("pickle larger than the file", changed(PICKLE, size=1 << 30, packed=1 << 30), "error"),
    Case("entry of two sizes", changed(DATA, size=1 << 20), "error"),
    Case(
        "entry shorter than its storage", torch_zip(data__0=b"\0" * 8), "error", codes={"tree": 0}
    ),
    Case(
        "entry longer than its storage", torch_zip(data__0=bytes(4096)), "error", codes={"tree": 0}
    ),
    Case("encrypted", changed(DATA, flags=1), "error"),
    Case("encrypted pickle", changed(PICKLE, flags=1), "error"),
    Case("method that nobody knows", changed(DATA, method=99), "error"),
    Case("pickle of a method that nobody knows", changed(PICKLE, method=99), "error"),
    Case("storage said to be deflated", changed(DATA, method=8), "compressed inside the zip"),
    Case(
        "bomb in a storage",
        lambda f: (f / "net.pt").write_bytes(_bomb(2048, DATA)),
        "compressed inside the zip",
    ),
    Case(
        "bomb in the pickle",
        lambda f: (f / "net.pt").write_bytes(_bomb(2048, PICKLE)),
        "compressed inside the zip",
    ),
    Case("wide sizes cut short", _zip64(struct.pack("<HH", 1, 8), size=0xFFFFFFFF), CUT),
    Case(
        "wide sizes beyond everything",
        _zip64(struct.pack("<HHQ", 1, 8, 1 << 63), size=0xFFFFFFFF),
        "error",
    ),
    Case(
        "wide place beyond everything",
        _zip64(struct.pack("<HHQ", 1, 8, (1 << 63) - 1), start=0xFFFFFFFF),
        "error",
    ),
    Case("extra field longer than it is", _zip64(struct.pack("<HH", 9, 0xFFFF)), CUT),
    Case("trailing junk", zipped(ENTRIES, tail=bytes(100)), "error"),
    Case("leading junk", b"junk" + WHOLE, "error"),
    Case(
        "two files one behind the other",
        WHOLE + zipped([Entry("readme", b"")]),
        "none that torch.save wrote",
    ),
    Case("no pickle", without("net/data.pkl"), "none that torch.save wrote"),
    Case("no storage", without("net/data/0"), CUT, codes={"tree": 0}),
    Case("no version", without("net/version"), "error", codes={"tree": 0}),
    Case("version that is no number", torch_zip(version=b"three\n"), "error", codes={"tree": 0}),
    Case("version of the future", torch_zip(version=b"99\n"), "newer torch", codes={"tree": 0}),
    Case("byte order of no machine", torch_zip(byteorder=b"middle"), "error", codes={"tree": 0}),
    Case("empty pickle", bare(b""), "error"),
    Case("pickle that does not stop", bare(records_of("module")["data.pkl"][:-1]), "error"),
    Case("pickle of noise", bare(bytes(range(256)) * 4), "error"),
    *(
        Case(f"pickle cut to {n} bytes", bare(records_of("module")["data.pkl"][:n]), "error")
        for n in (1, 2, 3, 77, 500, 1000)
    ),
    Case("terabyte of nothing", _sparse, "error"),
    *(
        Case(f"entry whose own header has {what}", changed(DATA, **change), says)
        for what, change, says in (
            ("another name", {"local": "net/data/1"}, "another name"),
            ("another size", {"own": {"size": 1, "packed": 1}}, "another size"),
            ("another method", {"own": {"method": 8}}, "another method"),
            ("an encrypted flag", {"own": {"flags": 1}}, "another set of flags"),
            ("a size behind it", {"own": {"flags": 8}}, "another set of flags"),
            ("a second name", {"own_extra": SECOND}, "another name"),
        )
    ),
    Case("entry with a second name", changed(DATA, extra=SECOND), "another name"),
    Case("pickle that is patched", changed(PICKLE, flags=0x20), "flags that no reader takes"),
    Case("bytes between entries", changed(DATA, after=b"PK\3\4"), "bytes that are no entry"),
    Case(
        "names in two encodings",
        zipped([*ENTRIES, Entry("net/\udc82", b"x"), Entry("net/é", b"x", flags=0x800)]),
        "two entries of its zip have one name",
    ),
    Case(
        "70,000 entries",
        many_entries,
        "says 65,535 entries",
    ),
)

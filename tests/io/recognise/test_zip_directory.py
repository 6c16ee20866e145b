"""Zips that two readers could take in two ways, each refused for its own reason."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modswap.core.errors import CheckpointError
from modswap.io.recognise.look import look_at
from tests.io.corpus.raw import Entry, entries_of, records_of, zipped

ENTRIES = entries_of(records_of("module"))
FIRST, *REST = ENTRIES
WHOLE = zipped(ENTRIES)


def wide(at: int, mark: bytes = b"PK\6\6", count: int = len(ENTRIES)) -> bytes:
    """Return the sound zip with a wide end, which torch writes, of another kind."""
    end = WHOLE.rindex(b"PK\5\6")
    length, start = struct.unpack("<II", WHOLE[end + 12 : end + 20])
    record = mark + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, length, start)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, end + at, 1)
    return WHOLE[:end] + record + locator + WHOLE[end:]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (WHOLE + b"\0", "bytes follow the end of its zip"),
        (b"PK\3\4" + WHOLE, "its zip's directory is not where it should be"),
        (zipped(ENTRIES, count=3), "its zip says 3 entries and lists"),
        (wide(7), "the end of its zip is not where it should be"),
        (wide(0, count=2), "the two ends of its zip disagree"),
        (zipped([*ENTRIES, Entry("net/../x", b"")]), "an unsafe name: 'net/../x'"),
        (zipped([*ENTRIES, Entry("/net/x", b"")]), "an unsafe name: '/net/x'"),
        (zipped([*ENTRIES, Entry("net/a\0b", b"")]), r"an unsafe name: 'net/a\x00b'"),
        (zipped([*ENTRIES, Entry("other/x", b"")]), "more than one folder: 'net' and 'other'"),
        (zipped([replace(FIRST, flags=1), *REST]), "is encrypted: 'net/data.pkl'"),
        (zipped([replace(FIRST, method=8), *REST]), "its tensors are compressed"),
        (zipped([replace(FIRST, packed=9), *REST]), "gives 'net/data.pkl' two sizes"),
        (zipped([*ENTRIES, Entry("net/x", b"", start=0)]), "overlap: "),
        (zipped([*ENTRIES, Entry("net/x", b"", size=1 << 20, packed=1 << 20)]), "beyond the file"),
        (zipped([*ENTRIES, Entry("net/DATA.PKL", b"")]), "have one name: 'net/data.pkl'"),
        (zipped([*ENTRIES, FIRST]), "have one name: 'net/data.pkl'"),
    ],
)
def test_zip_that_could_be_read_in_two_ways_is_refused(
    content: bytes, what: str, tmp_path: Path
) -> None:
    (tmp_path / "net.pt").write_bytes(content)

    with pytest.raises(CheckpointError) as raised:
        look_at(tmp_path / "net.pt")

    assert what in raised.value.what
    assert raised.value.fix


@pytest.mark.parametrize("name", ["net.pt", "ü.pt", "a b.pt", "n" * 200])
def test_zip_of_torch_is_sound(name: str, tmp_path: Path) -> None:
    torch.save({"ü": torch.ones(2), "empty": torch.ones(0)}, tmp_path / name)

    look = look_at(tmp_path / name)

    assert len(look.sizes) == len(look.names) > 4


@pytest.mark.parametrize("content", [WHOLE, wide(0)])
def test_zip_with_either_end_is_sound(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)

    assert look_at(tmp_path / "net.pt").names[0] == "net/data.pkl"


def test_name_of_an_old_code_page_is_measured_as_it_is_stored(tmp_path: Path) -> None:
    old = Entry("net/x", b"abc")
    content = zipped([*ENTRIES, old]).replace(b"net/x", b"net/\x81")
    (tmp_path / "net.pt").write_bytes(content)

    assert "net/ü" in look_at(tmp_path / "net.pt").names


def test_torch_looks_records_up_without_regard_to_capitals(tmp_path: Path) -> None:
    # why names that differ in nothing else are refused: what is looked through is not what it loads
    other = Entry("net/DATA.PKL", b"other")
    (tmp_path / "net.pt").write_bytes(zipped([*ENTRIES, other]))

    reader = torch._C.PyTorchFileReader(str(tmp_path / "net.pt"))

    assert reader.get_record("data.pkl") == b"other"

"""Zips as torch writes them: aligned, readable by others, of any size."""

import io
import zipfile
import zlib
from pathlib import Path

import pytest
import torch

from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.copying import Sink
from modswap.io.raw.torch_zip_layout import (
    ALIGNMENT_BYTES,
    PAGE_BYTES,
    lay_out,
    read_archive,
    read_inner_archive,
)
from tests.io.corpus.raw import Entry, entries_of, records_of, zipped


def write(records: dict[str, ByteRange], out: Path) -> None:
    layout = lay_out("net", records)
    with Sink(out, layout.nbytes) as sink:
        layout.write(sink)
        sink.finish()
    assert out.stat().st_size == layout.nbytes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"a": torch.arange(5000.0), "b": torch.ones(3)}, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_copied_zip_is_read_by_others(file: Path, tmp_path: Path) -> None:
    archive = read_archive(file)
    out = tmp_path / "out.pt"

    write(dict(archive.records), out)

    assert archive.root == "net"
    with zipfile.ZipFile(out) as opened:
        assert opened.testzip() is None
    for mmap in (True, False):
        back = torch.load(out, weights_only=True, mmap=mmap)  # noqa: TID251 - another reader's view
        assert torch.equal(back["a"], torch.arange(5000.0))
    starts = [extent.start for extent in read_archive(out).records.values()]
    assert all(start % ALIGNMENT_BYTES == 0 for start in starts)


def test_records_at_pages_stay_at_pages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(3 * PAGE_BYTES))
    crc = zlib.crc32(bytes(PAGE_BYTES))
    records = {
        "data/0": ByteRange(PAGE_BYTES, source, PAGE_BYTES, crc=crc),
        "data/1": ByteRange(PAGE_BYTES, source, 64, crc=crc),
    }

    write(records, tmp_path / "out.pt")

    aligned, other = (e.start for e in read_archive(tmp_path / "out.pt").records.values())
    assert aligned % PAGE_BYTES == 0
    assert other % PAGE_BYTES != 0


def test_zip_in_memory_is_read(file: Path) -> None:
    from_file, from_memory = read_archive(file), read_archive(file.read_bytes())

    assert list(from_file.records) == list(from_memory.records)
    for name, extent in from_file.records.items():
        held = from_memory.records[name]
        assert held.file is None
        assert bytes(held.data) == file.read_bytes()[extent.start : extent.start + extent.nbytes]


def test_zip_beyond_four_gib_is_listed_in_wide_numbers(tmp_path: Path) -> None:
    source = tmp_path / "hole"
    size = (4 << 30) + 17
    with source.open("wb") as stream:
        stream.truncate(size)
    records = {"data/0": ByteRange(size, source), "data/1": in_memory(b"end")}
    layout = lay_out("net", records)

    class Sparse(io.BytesIO):
        """A file in which only what is not copied takes room."""

        position = 0

        def write(self, data: bytes | memoryview) -> int:  # type: ignore[override] # no buffer
            out.seek(self.position)
            out.write(data)
            self.position += len(data)
            return len(data)

        def copy(self, extent: ByteRange) -> None:
            if extent.file is None:
                self.write(extent.data)
            else:
                self.position += extent.nbytes

    with (tmp_path / "out.pt").open("wb") as out:
        layout.write(Sparse())  # type: ignore[arg-type] # it has what is used of one

    assert (tmp_path / "out.pt").stat().st_size == layout.nbytes
    archive = read_archive(tmp_path / "out.pt")
    assert [extent.nbytes for extent in archive.records.values()] == [size, 3]
    with zipfile.ZipFile(tmp_path / "out.pt") as opened:
        assert opened.read("net/data/1") == b"end"


@pytest.mark.slow
def test_zip_of_many_records_is_listed_in_wide_numbers(tmp_path: Path) -> None:
    records = {f"data/{n}": in_memory(b"x") for n in range(70_000)}

    write(records, tmp_path / "out.pt")

    assert len(read_archive(tmp_path / "out.pt").records) == 70_000


def test_zip_inside_a_file_that_is_compressed_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"x" * 100)

    with pytest.raises(ValueError, match="no zip as torch"):
        read_inner_archive(tmp_path / "a.zip", 0, (tmp_path / "a.zip").stat().st_size)


@pytest.mark.parametrize(
    "content",
    [
        zipped(entries_of(records_of("weights")), at=1 << 20),
        zipped([Entry("net/data.pkl", b"x", local="net/other"), Entry("net/data/0", b"y")]),
    ],
    ids=["entries in front of it", "a name that differs"],
)
def test_zip_inside_a_file_that_disagrees_with_its_directory_is_refused(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.distcp").write_bytes(bytes(64) + content)

    with pytest.raises(ValueError, match="no zip as torch"):
        read_inner_archive(tmp_path / "a.distcp", 64, len(content))

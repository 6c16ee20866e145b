"""Copies by the kernel: what arrives is what was there, and what is not is noticed.

Covers: byte_range, watching.
"""

import errno
import os
import zlib
from hashlib import sha256
from pathlib import Path

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.raw import watching
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.copying import WAYS, Sink, Way, by_hand

DATA = os.urandom(3 << 20)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(DATA)
    return file


def piece(
    source: Path, crc: int | None = None, start: int = 1000, end: int = 2_500_000
) -> ByteRange:
    return ByteRange(end - start, source, start, crc=crc, name="net/data/0")


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
@pytest.mark.parametrize("checksums", [True, False])
def test_every_way_gives_the_same_bytes(
    way: Way, checksums: bool, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    extent = piece(source, zlib.crc32(DATA[1000:2_500_000]))

    with Sink(out, 4 << 20, checksums=checksums, ways=(way,)) as sink:
        sink.write(b"head")
        sink.copy(extent)
        sink.copy(in_memory(b"tail"))
        digest = sink.finish()

    expected = b"head" + DATA[1000:2_500_000] + b"tail"
    assert out.read_bytes() == expected
    assert digest == sha256(expected).hexdigest()
    assert [(start, found) for start, found, _ in sink.arrivals] == [(4, extent)]


def refusing(number: int) -> Way:
    def way(target: int, source: int, start: int, count: int) -> int:
        raise OSError(number, os.strerror(number))

    return way


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_way_that_the_system_has_not_gives_way_to_the_next(
    number: int, source: Path, tmp_path: Path
) -> None:
    with Sink(tmp_path / "out", 0, ways=(refusing(number), by_hand)) as sink:
        sink.copy(piece(source))
        sink.finish()

    assert (tmp_path / "out").read_bytes() == DATA[1000:2_500_000]


def test_error_that_no_other_way_would_mend_is_raised(source: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space"),
        Sink(tmp_path / "out", 0, ways=(refusing(errno.ENOSPC), by_hand)) as sink,
    ):
        sink.copy(piece(source))


def test_copy_from_another_file_system_arrives(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other file system here")
    file = memory / f"modswap-test-{os.getpid()}"
    file.write_bytes(DATA)
    try:
        with Sink(tmp_path / "out", len(DATA)) as sink:
            sink.copy(ByteRange(len(DATA), file))
            sink.finish()
    finally:
        file.unlink()

    assert (tmp_path / "out").read_bytes() == DATA


def test_source_that_ends_too_early_is_named(source: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match=r"source: it is cut short: 'net/data/0' reaches"),
        Sink(tmp_path / "out", 0) as sink,
    ):
        sink.copy(piece(source, zlib.crc32(b""), end=len(DATA) + 1))


def copied(out: Path, extent: ByteRange, ways: tuple[Way, ...] = WAYS) -> None:
    with Sink(out, 0, ways=ways) as sink:
        sink.copy(extent)
        sink.finish()


def test_damaged_source_and_damaged_copy_have_different_errors(
    source: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"source: its record 'net/data/0' is damaged: its"):
        copied(tmp_path / "out", piece(source, 1))


def spoiling(target: int, source: int, start: int, count: int) -> int:
    data = bytearray(os.pread(source, count, start))
    data[len(data) // 2] ^= 4
    return os.write(target, data)


@pytest.mark.parametrize("crc", [None, zlib.crc32(DATA[1000:2_500_000])], ids=["unknown", "known"])
def test_copy_that_is_not_what_was_there_is_noticed(
    crc: int | None, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        CheckpointError, match=r"the disk changed the bytes that were copied of net"
    ):
        copied(tmp_path / "out", piece(source, crc), (spoiling,))


def test_disk_without_room_says_so_before_anything_is_written(tmp_path: Path) -> None:
    room = os.statvfs(tmp_path)
    free = room.f_bavail * room.f_frsize

    with pytest.raises(OSError, match="No space left") as raised:
        Sink(tmp_path / "out", free + (1 << 30))

    assert raised.value.errno == errno.ENOSPC
    assert (tmp_path / "out").stat().st_blocks == 0


@pytest.mark.parametrize(("number", "told"), [(errno.EOPNOTSUPP, False), (errno.EIO, True)])
def test_file_system_that_cannot_reserve_is_written_to(
    number: int, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "posix_fallocate", refuse)

    if told:
        with pytest.raises(OSError, match="no"):
            Sink(tmp_path / "out", 10)
        return
    with Sink(tmp_path / "out", 10) as sink:
        sink.write(b"x")
        sink.finish()
    assert (tmp_path / "out").read_bytes() == b"x"


def test_long_file_is_flushed_on_the_way(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_FLUSH_BYTES", 1 << 20)
    flushed: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)

    with Sink(tmp_path / "out", 0) as sink:
        for _ in range(3):
            sink.copy(ByteRange(len(DATA), source))
        sink.finish()

    assert flushed

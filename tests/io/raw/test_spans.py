"""Bytes in several places, compared in little memory."""

from pathlib import Path
from threading import Event

import pytest

from modswap.core.errors import CheckpointError
from modswap.io.raw import spans
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.spans import Span, are_equal, batches, descriptors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "bytes"
    found.write_bytes(bytes(range(100)))
    return found


def test_bytes_of_several_ranges_are_read_as_one(file: Path) -> None:
    with descriptors() as files:
        span = Span([ByteRange(10, file, 90), in_memory(b"abc"), ByteRange(5, file, 0)], files)
        data, last = bytearray(7), bytearray(2)
        span.read(8, memoryview(data))
        span.read(16, memoryview(last))

    assert span.nbytes == 18
    assert data == bytes([98, 99]) + b"abc" + bytes([0, 1])
    assert last == bytes([3, 4])


def test_no_ranges_are_no_bytes() -> None:
    with descriptors() as files:
        assert are_equal([(Span([], files), Span([], files))]) == [True]


def test_different_bytes_are_found_in_any_block(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "BLOCK_BYTES", 16)
    monkeypatch.setattr(spans, "_PART_BYTES", 40)
    monkeypatch.setattr(spans._buffers, "pair", (bytearray(16), bytearray(16)))
    data = bytes(range(100))
    late = data[:97] + b"x" + data[98:]
    read: list[int] = []
    with descriptors() as files:
        whole = Span([ByteRange(100, file, 0)], files)
        others = [data, late, b"x" + data[1:], data[:99]]

        pairs = [(whole, Span([in_memory(other)], files)) for other in others]
        found = [are_equal([pair], read.append)[0] for pair in pairs]

    assert found == [True, False, False, False]
    assert sum(read[:3]) == 200


def test_part_is_left_when_another_one_differs(file: Path) -> None:
    with descriptors() as files:
        span = Span([ByteRange(100, file, 0)], files)
        stop = Event()
        stop.set()

        assert spans._equal_part(span, Span([in_memory(b"x" * 100)], files), 0, 100, stop)


def test_file_that_ends_too_early_is_named(file: Path) -> None:
    with descriptors() as files:
        span = Span([ByteRange(200, file, 0, name="data/0")], files)

        with pytest.raises(CheckpointError, match="it ends within 'data/0'"):
            are_equal([(span, Span([in_memory(bytes(200))], files))])


def test_small_tasks_are_handed_over_together_and_large_ones_alone() -> None:
    sizes = [1, 2, 9, 1, 3, 1, 1]

    assert list(batches(sizes, lambda size: size, 4)) == [(1, 2, 9), (1, 3), (1, 1)]
    assert list(batches([], lambda size: size, 4)) == []
    assert list(batches([5, 4], lambda size: size, 4)) == [(5,), (4,)]

"""CRC-32 of many ranges, read by several threads."""

import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.errors import CheckpointError
from modswap.io.raw import crc32
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.crc32 import combined, crc32s

DATA = bytes(range(256)) * 40


@given(st.binary(max_size=300), st.binary(max_size=3000))
def test_sum_of_two_parts_is_that_of_the_whole(first: bytes, second: bytes) -> None:
    assert combined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(
        first + second
    )


def test_sum_of_a_part_of_many_bytes_follows_too() -> None:
    zeros = bytes(5 << 20)

    assert combined(zlib.crc32(b"x"), zlib.crc32(zeros), len(zeros)) == zlib.crc32(b"x" + zeros)


@pytest.mark.parametrize("part", [7, 1000, 1 << 20])
def test_ranges_have_the_sums_of_zlib_however_they_are_shared_out(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crc32, "PART_BYTES", part)
    monkeypatch.setattr(crc32, "_BLOCK_BYTES", 64)
    (tmp_path / "a").write_bytes(DATA)
    (tmp_path / "b").write_bytes(DATA[::-1])
    places = [("a", 0, 10), ("b", 5, 4000), ("a", 77, 0), ("a", 300, 9940), ("b", 0, 1)]
    ranges = [ByteRange(n, tmp_path / name, start) for name, start, n in places]
    read: list[int] = []

    found = crc32s([*ranges, in_memory(DATA)], read.append)

    held = {"a": DATA, "b": DATA[::-1]}
    wanted = [zlib.crc32(held[name][start : start + n]) for name, start, n in places]
    assert found == [*wanted, zlib.crc32(DATA)]
    assert sum(read) == sum(n for *_, n in places) + len(DATA)


def test_file_that_ends_too_early_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")

    with pytest.raises(CheckpointError, match=r"a: it is cut short: 'w' reaches beyond its end"):
        crc32s([ByteRange(3, tmp_path / "a", 2, name="w")])

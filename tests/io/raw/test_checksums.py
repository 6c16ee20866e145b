"""Damaged bytes that torch would read without a word."""

import zipfile
from pathlib import Path

import pytest
import torch

import modswap
from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import CheckpointError
from modswap.io.raw.checksums import UNKNOWN, compare_checksums, without_checksums
from modswap.io.recipe.reader import parse_recipe
from modswap.io.recognise.look import look_at
from modswap.ops.jobs.replace import replace_file
from tests.models import GatedNet

ALLOW = ["tests.models.*"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(GatedNet(), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def flip(file: Path, record: str, byte: int) -> None:
    """Flip one bit of a record's bytes."""
    with zipfile.ZipFile(file) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith(f"/{record}"))
        data = archive.read(entry)
    content = bytearray(file.read_bytes())
    content[content.index(data, entry.header_offset) + byte] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("byte", [0, 7, -1])
def test_flipped_bit_in_the_weights_is_an_error(file: Path, byte: int) -> None:
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("net/data/0").file_size

    flip(file, "data/0", byte % size)

    assert isinstance(torch.load(file, weights_only=False), GatedNet)  # noqa: TID251 - as torch does
    with pytest.raises(CheckpointError, match=r"net\.pt: its record 'net/data/0' is damaged: its"):
        modswap.load(file, allow=ALLOW)
    assert isinstance(modswap.load(file, allow=ALLOW, checksum=False), GatedNet)


def test_sound_file_has_no_finding(file: Path) -> None:
    assert not without_checksums(look_at(file))
    compare_checksums(look_at(file))


def test_file_without_checksums_is_reported(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(GatedNet(), tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(before)

    assert without_checksums(look_at(tmp_path / "net.pt"))
    compare_checksums(look_at(tmp_path / "net.pt"))
    assert isinstance(modswap.load(tmp_path / "net.pt", allow=ALLOW), GatedNet)


def test_entry_that_ends_beyond_the_file_is_an_error(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        entry = archive.infolist()[-1]
    content = bytearray(file.read_bytes())
    place = content.rindex(entry.filename.encode()) - 4  # where the directory says it begins
    content[place : place + 4] = (len(content) - 10).to_bytes(4, "little")
    file.write_bytes(content)

    with pytest.raises(CheckpointError, match=r"it is cut short: .* ends beyond the file"):
        compare_checksums(look_at(file))


def test_swap_gives_checksums_to_a_file_without_them(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(GatedNet(), tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    recipe = parse_recipe(
        "version: 1\ninputs: [{shape: [1, 3, 28, 28]}]\n"
        "replace: [{match: space_attention, with: SEBlock}]\n",
        "swap.yaml",
        ".",
    )
    subject = Subject(tmp_path / "net.pt", Policy(allow=tuple(ALLOW)))

    outcome = replace_file(Job(subject, recipe, tmp_path / "out.pt"))

    assert UNKNOWN in outcome.notes
    assert not without_checksums(look_at(tmp_path / "out.pt"))
    compare_checksums(look_at(tmp_path / "out.pt"))

"""Checksums of a checkpoint: compared, or a note says why not."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from modswap.core.asked.job import Policy, Subject
from modswap.core.errors import CheckpointError
from modswap.io.formats.safetensors.digests import STALE
from modswap.io.raw.checksums import NOTHING
from modswap.ops.load.checksums import NOT_COMPARED, checksum_notes, compared, intact
from tests.io.formats.safetensors.written import WEIGHTS as WRITTEN
from tests.io.formats.safetensors.written import flip, write

OLD_FILES = Path(__file__).parents[2] / "fixtures" / "before_the_rebuild"
WEIGHTS = {"weight": torch.arange(4096.0)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(WEIGHTS, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def test_sound_file_is_compared_without_a_note(file: Path) -> None:
    assert intact(Subject(file)) == ()


def test_flipped_bit_is_an_error_unless_checksums_are_passed_over(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(WEIGHTS["weight"].numpy().tobytes()) + 9] ^= 1
    file.write_bytes(data)

    with pytest.raises(CheckpointError, match="damaged"):
        intact(Subject(file))
    assert intact(Subject(file, Policy(checksum=False))) == (
        "its checksums were not compared (--no-checksum)",
    )


def test_file_that_was_saved_without_checksums_has_a_note(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(WEIGHTS, tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(True)

    assert "checksum" in "".join(checksum_notes(Subject(tmp_path / "net.pt")))


def test_weights_of_a_format_without_checksums_are_not_read_when_it_is_loaded(
    tmp_path: Path,
) -> None:
    write(tmp_path / "net.safetensors")
    flip(tmp_path / "net.safetensors", "b.weight")

    assert intact(Subject(tmp_path / "net.safetensors")) == ()


def test_digests_in_a_receipt_are_compared_unless_they_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    write(file)
    assert compared(Subject(file)) == ()

    flip(file, "b.weight")

    with pytest.raises(CheckpointError, match=r"its tensor 'b\.weight' is damaged"):
        compared(Subject(file))
    assert compared(Subject(file, Policy(checksum=False))) == (NOT_COMPARED,)


def test_digests_of_an_earlier_file_have_a_note(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    write(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file({name: tensor + 1 for name, tensor in WRITTEN.items()}, file, metadata)

    assert compared(Subject(file)) == (f"no checksum was compared: {STALE}",)


@pytest.mark.parametrize("name", ["net.safetensors", "legacy.pt"])
def test_file_with_nothing_to_compare_has_a_note(name: str, tmp_path: Path) -> None:
    if name == "legacy.pt":
        torch.save(WEIGHTS, tmp_path / name, _use_new_zipfile_serialization=False)
    else:
        save_file(WEIGHTS, tmp_path / name)

    assert compared(Subject(tmp_path / name)) == (NOTHING,)


def test_archive_that_torch_always_sums_has_no_note(tmp_path: Path) -> None:
    program = OLD_FILES / "program.pt2"

    assert compared(Subject(program)) == ()

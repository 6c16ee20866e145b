"""Checksums of a checkpoint: compared, or a note says why not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modswap.core.asked.job import Policy, Subject
from modswap.core.errors import CheckpointError
from modswap.ops.load.checksums import checksum_notes, intact

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


def test_format_without_checksums_has_no_note(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "net.safetensors")

    assert intact(Subject(tmp_path / "net.safetensors")) == ()

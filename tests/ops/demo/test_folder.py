"""The folder of the demonstration: nothing of others in it is overwritten."""

import os
from pathlib import Path

import pytest

from modswap.cli.app import run
from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError
from modswap.io.formats.reading import read
from modswap.ops.demo.folder import SWAPPED, TRAINING, WHOLE, prepare_folder, write_checkpoints
from modswap.ops.demo.network import build_network
from tests.commands import no_file_above


def test_folder_is_made_and_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    prepare_folder(folder)
    network = build_network(classes=2, base_width=2)

    for _ in range(2):
        assert write_checkpoints(network, {"a": 1}, folder) == folder / WHOLE
        (folder / SWAPPED).touch()
        (folder / "mine.txt").touch()
        prepare_folder(folder)

    assert read(folder / TRAINING, Policy()).payload["optimizer"] == {"a": 1}
    names = [WHOLE, TRAINING, SWAPPED, "mine.txt"]
    assert sorted(place.name for place in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", [WHOLE, TRAINING, SWAPPED])
@pytest.mark.parametrize("kind", ["file", "link", "folder", "pipe"])
def test_files_of_others_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    place = tmp_path / name
    match kind:
        case "file":
            place.write_text("precious")
        case "link":
            place.symlink_to("precious")
        case "folder":
            place.mkdir()
        case _:
            os.mkfifo(place)

    with pytest.raises(CheckpointError, match="would overwrite it, and did not write it") as of:
        prepare_folder(tmp_path)

    assert of.value.where == str(place)


def test_link_beside_own_files_is_refused(tmp_path: Path) -> None:
    write_checkpoints(build_network(classes=2, base_width=2), {}, tmp_path)
    (tmp_path / SWAPPED).symlink_to("precious")

    with pytest.raises(CheckpointError, match="would overwrite it"):
        prepare_folder(tmp_path)


@pytest.mark.parametrize("name", ["net.pt", "net.pt/inner"])
def test_file_is_no_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.pt").write_text("precious")

    assert run(["demo", str(tmp_path / name), "-q"]) == 3

    assert "it cannot be written: " in capsys.readouterr().err
    assert (tmp_path / "net.pt").read_text() == "precious"


def test_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    network = build_network(classes=2, base_width=2)
    file = write_checkpoints(network, {}, tmp_path)
    before = file.read_bytes()

    with no_file_above(1000), pytest.raises(CheckpointError, match="no space left"):
        write_checkpoints(network, {}, tmp_path)

    assert file.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([WHOLE, TRAINING])

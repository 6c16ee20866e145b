"""Links in a folder of a distributed checkpoint: those that leave it are refused."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint

from modswap.cli.app import run

dcp: Any = torch.distributed.checkpoint
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
RECIPE = "version: 1\nreplace: [{match: gate, with: SEBlock, layout: NCHW, args: {channel: 8}}]\n"
WEIGHTS = {"gate.weight": torch.ones(8, 8, 1, 1), "stem.weight": torch.arange(9.0)}


def replace(source: Path | str = "in", out: str = "out") -> int:
    return run(["replace", str(source), "-c", "swap.yaml", "-o", out, "--no-forward"])


def moved(file: Path, place: Path) -> None:
    """Move a file, and leave a link to its new place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    file.rename(place)
    file.symlink_to(os.path.relpath(place, file.parent))


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that `torch.distributed.checkpoint` wrote."""
    made = tmp_path_factory.mktemp("distributed") / "ck"
    writer = dcp.FileSystemWriter(made, thread_count=2)
    dcp.save({"model": dict(WEIGHTS)}, storage_writer=writer, no_dist=True)
    (made / "notes.txt").write_text("notes")
    return made


def test_files_of_a_distributed_checkpoint_may_be_links_within(
    distributed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("swap.yaml").write_text(RECIPE)
    shutil.copytree(distributed, "in")
    assert replace("in", "plain") == 0
    for file in [p for p in Path("in").iterdir() if p.is_file()]:
        moved(file, Path("in/all") / file.name.lstrip("."))

    assert replace("in", "out") == 0

    for name in (p.name for p in Path("plain").iterdir()):
        assert Path("out", name).read_bytes() == Path("plain", name).read_bytes() or name in {
            "modswap.json"
        }
    links = {p.name for p in Path("out").iterdir() if p.is_symlink()}
    assert links >= {".metadata", "notes.txt"}
    assert not Path("out/modswap.json").is_symlink()


@pytest.mark.parametrize("name", [".metadata", "*.distcp", "notes.txt"])
@pytest.mark.parametrize("hub", [True, False])
def test_files_of_a_distributed_checkpoint_that_are_links_outward(
    hub: bool, name: str, distributed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("swap.yaml").write_text(RECIPE)
    source = Path("models--a/snapshots/1" if hub else "in")
    shutil.copytree(distributed, source)
    for file in list(source.glob(name)):
        moved(file, Path("models--a/blobs") / f"hash{file.name}")

    assert replace(source) == (0 if hub else 3)

    if hub:
        assert not any(p.is_symlink() for p in Path("out").iterdir())
        assert run(["tree", "out"]) == 0
    else:
        assert run(["tree", "in"]) == (0 if name == "notes.txt" else 3)


def test_metadata_that_are_a_pipe_are_refused(
    distributed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(distributed, "in")
    Path("in/.metadata").unlink()
    os.mkfifo("in/.metadata")

    assert run(["tree", "in"]) == 3


def test_link_to_a_file_that_is_left_out_is_left_out(
    distributed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("swap.yaml").write_text(RECIPE)
    shutil.copytree(distributed, "in")
    for file in list(Path("in").glob("*.distcp")):
        Path("in", f"link of {file.name}").symlink_to(file.name)

    assert replace() == 0

    left = {p.name for p in Path("out").iterdir()}
    kept = {p.name for p in Path("in").glob("__*") if p.name in left}
    assert {n for n in left if n.startswith("link")} == {f"link of {n}" for n in kept}
    assert len(kept) < len(list(Path("in").glob("__*")))
    assert Path("in/.metadata").exists()

"""A lack of memory is no damage: every reader reports it with exit 3 and advice."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint
from safetensors.torch import save_file

import modswap
from modswap.cli.app import run
from modswap.core.errors import CheckpointError
from tests.models import GatedNet

FACTORY = "tests.models:GatedNet"
SAID = "there is not enough memory for it; close other programs, or use a machine with more memory"
ALLOCATOR = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
LOAD, PICKLE = "torch.serialization.load", "modswap.io.pickled.data._Reader.load"


def _folder(file: Path) -> None:
    file.mkdir()
    save_file(GatedNet().state_dict(), file / "model.safetensors")


def _exported(file: Path) -> None:
    torch.export.save(torch.export.export(GatedNet().eval(), (torch.ones(1, 3, 8, 8),)), file)


def _legacy(file: Path) -> None:
    torch.save(GatedNet().state_dict(), file, _use_new_zipfile_serialization=False)


def _distributed(file: Path) -> None:
    dcp: Any = torch.distributed.checkpoint
    with warnings.catch_warnings(action="ignore"):  # torch warns that there is one process
        dcp.save({"model": GatedNet().state_dict()}, checkpoint_id=file, no_dist=True)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "net.pt": lambda file: torch.save(GatedNet().state_dict(), file),
    "old.pt": _legacy,
    "net.safetensors": lambda file: save_file(GatedNet().state_dict(), file),
    "folder": _folder,
    "net.pt2": _exported,
    "ranks": _distributed,
}


def lack(error: Exception) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:
        raise error

    return call


@pytest.mark.parametrize(
    ("name", "where", "error"),
    [
        ("net.pt", LOAD, MemoryError()),
        ("net.pt", LOAD, ALLOCATOR),
        ("net.pt", PICKLE, MemoryError()),
        ("old.pt", LOAD, MemoryError()),
        ("old.pt", PICKLE, MemoryError()),
        ("net.safetensors", "modswap.io.formats.safetensors.load.safe_open", MemoryError()),
        ("net.safetensors", "json.loads", MemoryError()),
        ("folder", "json.loads", MemoryError()),
        ("net.pt2", "torch.export.load", ALLOCATOR),
        ("ranks", PICKLE, MemoryError()),
        ("ranks", "modswap.io.formats.distributed.load.read_tensor", ALLOCATOR),
    ],
)
def test_reader_that_runs_out_of_memory_says_so(
    name: str, where: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MAKERS[name](tmp_path / name)
    monkeypatch.setattr(where, lack(error))
    trust = name == "net.pt2"  # else such an archive is refused before it is read

    with pytest.raises(CheckpointError) as raised:
        modswap.load(tmp_path / name, None if trust else FACTORY, trust=trust)

    assert raised.value.line() == f"{tmp_path / name}: {SAID}"


def test_commands_that_read_data_only_say_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.pt"
    MAKERS["net.pt"](file)
    (tmp_path / "swap.yaml").write_text(
        "version: 1\nreplace: [{match: space_attention, with: SEBlock}]\n"
    )
    monkeypatch.setattr(PICKLE, lack(MemoryError()))

    recipe, out = str(tmp_path / "swap.yaml"), str(tmp_path / "out.pt")
    for args in (["tree"], ["replace", "-c", recipe, "-o", out, "--no-forward"]):
        code = run([args[0], str(file), *args[1:]])

        captured = capsys.readouterr()
        assert code == 3
        assert "there is not enough memory" in " ".join((captured.out + captured.err).split())

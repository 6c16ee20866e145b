"""`modswap tree`: what is selected, highlighted, run on an input and written."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modswap.cli.app import run
from tests.cli.tree_page import PAGE, page


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stages = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3)))
    keras = nn.ModuleDict({"block1_conv1": nn.Conv2d(3, 4, 1), "block1_pool": nn.MaxPool2d(2)})
    torch.save(nn.Sequential(stages, nn.Linear(4, 2)), "net.pt")
    torch.save(keras, "keras.pt")


def out(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert run(["tree", *args]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_equal_blocks_are_folded_and_verbose_shows_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert "0.0–2 ×3" in out(capsys, "net.pt")
    assert "0.1.0  " in out(capsys, "net.pt", "-v")


def test_json_has_a_module_for_each_path(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(out(capsys, "net.pt", "--format", "json", "--highlight", "0.*"))

    assert len(data["modules"]) == 12
    assert [one["path"] for one in data["modules"] if one["highlighted"]] == ["0.0", "0.1", "0.2"]


@pytest.mark.parametrize(
    ("option", "text", "paths"),
    [
        ("--match", "block1_*", ["block1_conv1", "block1_pool"]),
        ("--prefix", "block1_c", ["block1_conv1"]),
        ("--match", "**.*_pool", ["block1_pool"]),
    ],
)
def test_names_in_the_manner_of_keras_are_found(
    option: str, text: str, paths: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads(out(capsys, "keras.pt", option, text, "--format", "json"))

    assert [one["path"] for one in data["modules"]] == paths


def test_selected_modules_have_values_on_an_input(capsys: pytest.CaptureFixture[str]) -> None:
    text = out(
        capsys, "net.pt", "--match", "0.*", "--input", "2,4", "--save-outputs", "o.safetensors"
    )

    assert "output of" in text
    assert "FLOPs" in text
    saved = load_file("o.safetensors")
    assert {name: tuple(held.shape) for name, held in saved.items()} == dict.fromkeys(
        ("0.0", "0.1", "0.2"), (2, 4)
    )
    again = ("net.pt", "--match", "0.*", "--input", "2,4", "--save-outputs", "o.safetensors")
    assert "exists" in out(capsys, *again, code=3)
    out(capsys, *again, "--force")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--match", "a", "--prefix", "a"], "two ways to select are given"),
        (["--prefix", "zz"], "no module's path or name begins with 'zz'"),
        (["--highlight", "zz"], "--highlight: no module matches 'zz'"),
        (["--save-outputs", "o.safetensors"], "no modules are selected"),
        (["--match", "0", "--save-outputs", "o.safetensors"], "there is no input"),
        (["--match", "0", "--input", "2,4", "--save-outputs", "o.pt"], "does not end in"),
        (["--input", "2,4", "--input", "x.npy"], "files and shapes are given together"),
        (["--match", "0", "--input", "2,5"], "the model refuses the dummy input (2, 5)"),
        (["--interactive"], "there is no terminal to browse in"),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in out(capsys, "net.pt", *args, code=2)


def test_page_has_what_the_command_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "`make docs` writes it anew"


def test_outputs_are_not_written_over_the_input_or_the_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("net.safetensors").write_bytes(Path("net.pt").read_bytes())
    before = Path("net.safetensors").read_bytes()

    args = ("--match", "0.*", "--input", "2,4", "--save-outputs", "net.safetensors", "--force")
    out(capsys, "net.safetensors", *args, code=3)

    assert Path("net.safetensors").read_bytes() == before

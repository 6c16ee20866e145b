"""Tests of the recipes in configs/: each runs as its first lines say."""

import json
import re
import runpy
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import modswap
from modswap.cli.app import run
from modswap.ops.demo.network import build_network

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(CONFIGS.glob("*.yaml"))
QUICK = {"detector_bra.yaml"}
SLOW = (pytest.mark.slow,)


def commands_of(recipe: Path) -> list[list[str]]:
    """Return the commands that the recipe's opening comment gives."""
    opening = re.findall(r"^#   (\S.*?)(?:\s\s+#.*)?$", recipe.read_text(), re.MULTILINE)
    return [line.split() for line in opening]


def make_checkpoint(program: str, words: list[str]) -> None:
    """Run the first command of a recipe; `modswap demo` would train a wide network."""
    if program == "python":
        runpy.run_path(words[0], run_name="__main__")
    else:
        assert words == ["demo"]
        Path("modswap-demo").mkdir()
        torch.save(build_network(base_width=4), "modswap-demo/unetpp.pt")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to run in, where the recipes are in `configs`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.name)
def test_recipe_runs_as_it_says(
    recipe: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program, *words), *commands = commands_of(recipe)
    make_checkpoint(program, words)

    for program, *words in commands:
        assert program == "modswap"
        assert run(words) == 0, capsys.readouterr().err

    assert any(words[:2] == ["modswap", "replace"] for words in commands)


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(file, marks=() if file.name in QUICK else SLOW) for file in RECIPES],
    ids=lambda f: f.name,
)
def test_recipe_swaps_without_an_alarm(
    recipe: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program, *words), *commands = commands_of(recipe)
    make_checkpoint(program, words)
    (replace,) = (words for _, *words in commands if words[0] == "replace")

    code = run([*replace, "--format", "json"])

    verify = json.loads(capsys.readouterr().out)["verify"]
    alarms = [found["what"] for found in verify["checks"] if found["status"] != "passed"]
    assert (code, verify["ok"]) == (0, True)
    assert [alarm for alarm in alarms if "`--thorough` takes that time" not in alarm] == []
    assert [found["path"] for found in verify["checks"] if "memory_format" in found["data"]] == []


FACTORY = "modswap.ops.demo.network:build_network"
CONTAINERS: dict[str, tuple[str, Callable[[nn.Module, Path], object]]] = {
    "module": ("net.pt", torch.save),
    "weights": ("net.pth", lambda m, f: torch.save(m.state_dict(), f)),
    "training": (
        "net.ckpt",
        lambda m, f: torch.save({"epoch": 3, "model_state_dict": m.state_dict()}, f),
    ),
    "safetensors": ("net.safetensors", lambda m, f: save_file(m.state_dict(), f)),
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shared"), [*product(CONTAINERS, [False, True])])
def test_main_case_at_full_width(kind: str, shared: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_network().eval()
    name, write = CONTAINERS[kind]
    write(model, tmp_path / name)
    recipe = CONFIGS / ("unetpp_bra_shared.yaml" if shared else "unetpp_bra.yaml")
    out = tmp_path / f"out{(tmp_path / name).suffix}"

    code = run(
        ["replace", str(tmp_path / name), "-c", str(recipe), "-o", str(out), "-q",
         "--model", FACTORY]
    )  # fmt: skip

    assert code == 0
    loaded = modswap.load(out, FACTORY).eval()
    gates = loaded.get_submodule("space_attention"), loaded.get_submodule("channel_attention")
    assert {vars(gate)["dim"] for gate in gates} == {512}
    one, other = (gate.get_parameter("wo.weight").data_ptr() for gate in gates)
    assert (one == other) is shared
    with torch.no_grad():
        assert torch.isfinite(loaded(torch.randn(1, 3, 224, 224))).all()
    old, new = model.state_dict(), loaded.state_dict()
    kept = [name for name in old if name in new]
    assert len(kept) == len(old) - 14
    assert all(torch.equal(old[name], new[name]) for name in kept)


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(file, marks=() if file.name in QUICK else SLOW) for file in RECIPES],
    ids=lambda f: f.name,
)
def test_model_computes_the_same_bits_where_the_old_modules_stay(
    recipe: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (program, *words), *commands = commands_of(recipe)
    make_checkpoint(program, words)
    checkpoint = next(words[1] for _, *words in commands if words[0] == "replace")
    text = re.sub(r"^( +)with: .*$", r"\g<0>\n\1start: preserve", recipe.read_text(), flags=re.M)
    (folder / "configs").unlink()  # a link to the recipes of the repository
    shutil.copytree(CONFIGS, folder / "configs")
    changed = folder / "configs" / recipe.name
    changed.write_text(text)

    code = run(["check", checkpoint, "-c", str(changed), "--device", "cpu", "--format", "json"])

    verify = json.loads(capsys.readouterr().out)["verify"]
    found = [one for one in verify["checks"] if one["check"] == "preserved"]
    assert (code, {one["status"] for one in found}) == (0, {"passed"})

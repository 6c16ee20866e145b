"""Every recipe in configs/ does what its first lines say."""

import json
import re
import runpy
from collections.abc import Callable
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


def demo_checkpoint() -> None:
    folder = Path("modswap-demo")
    folder.mkdir()
    torch.save(build_network(base_width=4), folder / "unetpp.pt")


def commands_of(recipe: Path) -> list[list[str]]:
    """Return the commands that the recipe's opening comment gives."""
    opening = re.findall(r"^#   (\S.*?)(?:\s\s+#.*)?$", recipe.read_text(), re.MULTILINE)
    return [line.split() for line in opening]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.name)
def test_recipe_runs_as_it_says(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    commands = commands_of(recipe)

    for program, *words in commands:
        if program == "python":
            runpy.run_path(words[0], run_name="__main__")
        elif words == ["demo"]:
            demo_checkpoint()
        else:
            assert run(words) == 0, capsys.readouterr().err

    assert any(words[:2] == ["modswap", "replace"] for words in commands)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.name)
def test_recipe_raises_no_alarm(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    makes, *_, (_, _, file, *_) = [
        words for words in commands_of(recipe) if words[1] not in {"check", "tree"}
    ]
    if makes[0] == "python":
        runpy.run_path(makes[1], run_name="__main__")
    else:
        demo_checkpoint()

    code = run(["check", file, "-c", f"configs/{recipe.name}", "--format", "json"])

    verify = json.loads(capsys.readouterr().out)["verify"]
    told = [found for found in verify["checks"] if found["status"] != "passed"]
    assert (code, verify["ok"]) == (0, True)
    assert [one["what"] for one in told if "`--thorough` takes that time" not in one["what"]] == []
    assert [one["path"] for one in verify["checks"] if "memory_format" in one["data"]] == []


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


@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("kind", CONTAINERS)
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

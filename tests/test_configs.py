"""Every recipe in configs/ does what its first lines say."""

import re
import runpy
from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
def test_main_case_at_full_width(shared: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_network(classes=2).eval()
    torch.save(model, tmp_path / "net.pt")
    name = "unetpp_bra_shared.yaml" if shared else "unetpp_bra.yaml"

    code = run(
        ["replace", str(tmp_path / "net.pt"), "-c", str(CONFIGS / name), "-o",
         str(tmp_path / "out.pt"), "-q"]
    )  # fmt: skip

    assert code == 0
    loaded = modswap.load(tmp_path / "out.pt")
    gates = loaded.get_submodule("space_attention"), loaded.get_submodule("channel_attention")
    assert (gates[0] is gates[1]) is shared
    assert {vars(gate)["dim"] for gate in gates} == {512}
    with torch.no_grad():
        assert torch.isfinite(loaded(torch.randn(1, 3, 224, 224))).all()
    old, new = model.state_dict(), loaded.state_dict()
    kept = [name for name in old if name in new]
    assert len(kept) == len(old) - 14
    assert all(torch.equal(old[name], new[name]) for name in kept)

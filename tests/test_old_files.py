"""Files of the version before the rebuild load, compute and are swapped as they were then.

The files and the script that wrote them are in `fixtures/before_the_rebuild`.
"""

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

import modswap
from modswap.cli.app import run
from modswap.core.asked.job import Policy
from modswap.core.kept.receipt import read_receipt
from modswap.io.formats.reading import read
from modswap.io.recipe.reader import parse_recipe

FOLDER = Path(__file__).parent / "fixtures" / "before_the_rebuild"
FACTORY = f"{FOLDER / 'network.py'}:build"
OUTPUTS: dict[str, list[float]] = json.loads((FOLDER / "outputs.json").read_text())
IMAGE: torch.Tensor = runpy.run_path(str(FOLDER / "network.py"))["IMAGE"]
RECIPE = """\
version: 1
inputs: [{shape: [1, 3, 14, 14]}]
replace: [{match: "gate*", with: SEBlock, adapt: true}]
verify: {skip: [matrix, sizes, cost, survival, dependence, independence, gradients]}
"""
PROGRAM = "program.pt2"


def model_of(name: str) -> torch.nn.Module:
    model = modswap.load(FOLDER / name, model=FACTORY, trust=name == PROGRAM)
    return model if name == PROGRAM else model.eval()


def test_every_file_of_the_folder_has_its_output() -> None:
    files = {file.name for file in FOLDER.iterdir() if file.suffix in {".pt", ".safetensors"}}

    assert files | {PROGRAM, "shards"} == OUTPUTS.keys()


@pytest.mark.parametrize("name", OUTPUTS)
def test_old_file_computes_what_it_computed(name: str) -> None:
    model = model_of(name)

    with torch.no_grad():
        found = model(IMAGE).flatten()

    torch.testing.assert_close(found, torch.tensor(OUTPUTS[name]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OUTPUTS)
def test_recipe_and_receipt_inside_an_old_file_are_read(name: str) -> None:
    container = read(FOLDER / name, Policy(trust=name == PROGRAM))

    assert container.recipe is not None
    assert parse_recipe(container.recipe, name, ".").replace
    assert container.receipt is not None
    assert read_receipt(container.receipt, name).sites


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != PROGRAM])
def test_model_of_an_old_file_is_swapped_again(name: str) -> None:
    model = model_of(name)

    outcome = modswap.replace(model, parse_recipe(RECIPE, "again.yaml", "."))

    assert outcome.ok
    assert outcome.sites[0].new_class == "modswap.nn.se_block.SEBlock"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", ["weights.pt", "training.pt", "weights.safetensors", "shards"])
def test_old_file_is_rewritten(name: str, tmp_path: Path) -> None:
    recipe = tmp_path / "again.yaml"
    recipe.write_text(RECIPE)
    out = tmp_path / name

    code = run(
        ["replace", str(FOLDER / name), "-c", str(recipe), "-o", str(out), "--model", FACTORY, "-q"]
    )

    assert code == 0
    again = modswap.load(out, model=FACTORY)
    assert type(again.get_submodule("gate")).__name__ == "SEBlock"


def test_check_agrees_with_an_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("locked.yaml", "SEBlock.pt"):
        shutil.copy(FOLDER / name, tmp_path)
    text = (FOLDER / "modswap.lock").read_text()
    versions = {"modswap": modswap.__version__, "torch": torch.__version__}
    lock = json.loads(text)
    lock["recipes"]["locked.yaml"]["versions"] |= versions  # these two may differ
    (tmp_path / "modswap.lock").write_text(json.dumps(lock))
    monkeypatch.chdir(tmp_path)

    assert run(["check", "locked.yaml", "--locked", "-q"]) == 0
    Path("locked.yaml").write_text((FOLDER / "locked.yaml").read_text() + "seed: 1\n")
    assert run(["check", "locked.yaml", "--locked", "-q"]) == 1


@pytest.mark.slow
def test_script_still_writes_files_of_the_same_kinds(tmp_path: Path) -> None:
    script = runpy.run_path(str(FOLDER / "write.py"))

    script["main"](tmp_path / "new")

    assert json.loads((tmp_path / "new" / "outputs.json").read_text()).keys() == OUTPUTS.keys()

"""The calls from Python: models in memory are swapped, saved and loaded.

Covers: outcomes.
"""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, ModswapError, ShapeError, UnsafeError, UsageError
from modswap.core.kept.receipt import read_receipt
from modswap.io.formats.reading import read
from modswap.io.recipe.reader import parse_recipe
from tests.models import GatedNet, SharedNet, build_gated
from tests.recipes import UNEXAMINED


def recipe(rule: str, shape: str = "[1, 3, 28, 28]", verify: str = UNEXAMINED) -> modswap.Recipe:
    text = f"version: 1\ninputs: [{{shape: {shape}}}]\n{verify}replace: [{rule}]\n"
    return parse_recipe(text, "swap.yaml", ".")


ECA = recipe("{match: space_attention, with: ECA}")


def test_model_in_memory_is_swapped_and_described() -> None:
    model = build_gated()

    outcome = modswap.replace(model, ECA)

    (site,) = outcome.sites
    assert (outcome.ok, outcome.checkpoint, outcome.recipe) == (True, "", "swap.yaml")
    assert (site.old_class, site.new_class) == (
        "torch.nn.modules.container.Sequential",
        "modswap.nn.eca.ECA",
    )
    assert outcome.ledger is not None
    assert outcome.ledger.kept.tensors == len(GatedNet().state_dict()) - 7
    assert outcome.params_after < outcome.params_before


def test_adapter_around_a_module_is_a_note_of_its_site() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 4, 1))

    outcome = modswap.replace(model, recipe("{match: '0', with: SEBlock, adapt: true}"))

    assert outcome.sites[0].new_class == "modswap.nn.se_block.SEBlock"
    assert outcome.sites[0].notes == (
        "an adapter around it pools by 2x2, projects 3 channels to 8",
    )


def test_module_at_two_paths_is_one_site_with_an_alias() -> None:
    rule = recipe("{match: first, with: ECA}", "[1, 8, 14, 14]")

    outcome = modswap.replace(SharedNet(), rule)

    assert (outcome.sites[0].path, outcome.sites[0].aliases) == ("first", ("second",))


def test_swap_that_does_not_hold_leaves_the_model_as_it_was() -> None:
    model = build_gated()
    before = dict(model.named_modules())
    moody = "{match: head, with: 'tests.models:Moody', args: {out_channels: 2}}"

    with pytest.raises(ShapeError, match="head: output was"):
        modswap.replace(model, recipe(moody, "[2, 3, 28, 28]", "verify: {modes: [train]}\n"))

    assert dict(model.named_modules()) == before


@pytest.mark.parametrize("name", ["out.safetensors", "out.pt"])
def test_saved_model_is_loaded_with_its_swap(name: str, tmp_path: Path) -> None:
    model = modswap.apply_recipe(build_gated().eval(), ECA)
    image = torch.ones(1, 3, 28, 28)

    written = modswap.save(model, tmp_path / name, recipe=ECA)
    loaded = modswap.load(written.file, "tests.models:build_gated", allow=["tests.models.*"])

    assert torch.equal(loaded.eval()(image), model(image))


@pytest.mark.parametrize("name", ["out.safetensors", "out.pt"])
def test_model_of_a_file_is_saved_with_the_swaps_of_the_file(name: str, tmp_path: Path) -> None:
    def loaded(file: Path) -> nn.Module:
        return modswap.load(file, "tests.models:build_gated", allow=["tests.models.*"]).eval()

    model, image = build_gated().eval(), torch.ones(1, 3, 28, 28)
    modswap.replace(model, ECA)
    trained = loaded(modswap.save(model, tmp_path / name).file)
    torch.nn.init.normal_(trained.get_parameter("head.weight"))

    again = loaded(modswap.save(trained, tmp_path / f"trained-{name}").file)

    assert torch.equal(again(image), trained(image))
    assert type(again.get_submodule("space_attention")).__name__ == "ECA"
    policy = Policy(allow=("tests.models.*",))
    old, new = (read(tmp_path / f"{start}{name}", policy) for start in ("", "trained-"))
    assert new.recipe == old.recipe
    receipts = [read_receipt(one.receipt or "", name) for one in (old, new)]
    assert receipts[0].sites == receipts[1].sites != ()


def test_no_swap_is_recorded_where_its_module_has_been_exchanged_since(tmp_path: Path) -> None:
    model = build_gated().eval()
    modswap.replace(model, ECA)
    loaded = modswap.load(modswap.save(model, tmp_path / "net.pt").file, allow=["tests.models.*"])
    loaded.space_attention = nn.Conv2d(8, 8, 1)

    modswap.save(loaded, tmp_path / "other.pt")

    other = read(tmp_path / "other.pt", Policy(allow=("tests.models.*",)))
    assert (other.recipe, other.receipt) == (None, None)
    again = modswap.load(tmp_path / "other.pt", allow=["tests.models.*"])
    assert isinstance(again.get_submodule("space_attention"), nn.Conv2d)


def test_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    file = tmp_path / "out.pt"
    modswap.save(nn.Linear(2, 2), file)

    with pytest.raises(CheckpointError, match="it exists"):
        modswap.save(nn.Linear(2, 3), file)

    modswap.save(nn.Linear(2, 3), file, force=True)
    assert modswap.load(file).out_features == 3


@pytest.mark.parametrize(
    ("value", "error"),
    [(GatedNet(), UnsafeError), (GatedNet().state_dict(), UsageError)],
    ids=["class that is not allowed", "weights without a factory"],
)
def test_file_that_cannot_give_a_model_is_refused(
    value: object, error: type[ModswapError], tmp_path: Path
) -> None:
    torch.save(value, tmp_path / "net.pt")

    with pytest.raises(error):
        modswap.load(tmp_path / "net.pt")


def test_model_is_not_saved_over_the_file_it_was_loaded_from(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save(nn.Sequential(nn.Linear(2, 2)), file)
    (tmp_path / "link.pt").symlink_to(file)
    os.link(file, tmp_path / "hard.pt")
    before = file.read_bytes()
    model = modswap.load(tmp_path / "link.pt")

    for name in ("net.pt", "link.pt", "hard.pt"):
        with pytest.raises(CheckpointError, match="it is the file that the model was loaded from"):
            modswap.save(model, tmp_path / name, force=True)
    assert file.read_bytes() == before
    modswap.save(model, tmp_path / "other.pt")
    modswap.save(model, tmp_path / "other.pt", force=True)


def test_model_is_not_saved_over_its_recipe(tmp_path: Path) -> None:
    file = tmp_path / "swap"  # without an ending a checkpoint could be written there
    file.write_text("{version: 1, replace: [{match: '0', with: ECA}]}")
    recipe = modswap.read_recipe(file)

    with pytest.raises(CheckpointError, match="it is the recipe itself"):
        modswap.save(nn.Linear(2, 2), file, recipe=recipe, force=True)

    assert file.read_text().startswith("{version")

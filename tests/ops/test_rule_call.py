"""Rules by arguments of a function."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import InputError, ModswapError, RecipeError, ShapeError, UsageError
from modswap.nn.eca import ECA
from modswap.ops.rule_call import recipe_of_call


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1)).eval()


def test_modules_are_put_in_beside_others_without_a_recipe() -> None:
    model = net()
    x = torch.randn(2, 3, 12, 12)
    before = model(x)

    outcome = modswap.insert(model, after=["0", "1"], with_="ECA", args={"k_size": 3})

    assert torch.equal(model(x), before)
    assert outcome.fresh_parameters() == (
        "0.eca.gate",
        "0.eca.module.conv.weight",
        "1.eca.gate",
        "1.eca.module.conv.weight",
    )
    assert "no input was given: took (1, 3, 224, 224)" in outcome.notes[0]
    assert outcome.found_input is not None


def test_modules_are_replaced_without_a_recipe() -> None:
    model = net()

    outcome = modswap.replace(
        model,
        match="2",
        with_="eca",
        class_="Conv2d",
        inputs=[(1, 3, 8, 8), {"shape": [2, 3, 4, 4]}],
    )

    assert isinstance(model[2], ECA)
    assert outcome.found_input is None
    assert outcome.verdict is not None
    assert len(outcome.verdict.cases) == 2


@pytest.mark.parametrize("name", ["Identity", "identity"])
def test_a_module_is_removed_where_shapes_allow(name: str) -> None:
    model = net()

    modswap.replace(model, match="2", with_=name)

    assert type(model[2]) is nn.Identity
    with pytest.raises(ShapeError, match="the site turns"):
        modswap.replace(model, match="0", with_=name)


@pytest.mark.parametrize(
    ("rule", "error", "what"),
    [
        ({"with_": "ECA"}, UsageError, "one of match, after, before, around is needed, not none"),
        ({"match": "2", "after": "1", "with_": "ECA"}, UsageError, "not match and after"),
        ({"match": "2"}, UsageError, "there is no new module"),
        ({"match": "2", "with_": "ECA", "args": {"k_size": {1}}}, UsageError, "plain data"),
        ({"match": "2", "with_": "ECA", "arg": {}}, RecipeError, "unknown key 'arg'"),
        ({"match": "2", "with_": "ECA", "expect": 0}, RecipeError, "'expect' is 0"),
    ],
)
def test_wrong_arguments_are_refused(
    rule: dict[str, Any], error: type[ModswapError], what: str
) -> None:
    with pytest.raises(error) as raised:
        recipe_of_call(rule)

    assert what in raised.value.what


def test_errors_name_the_arguments() -> None:
    model = net()
    with pytest.raises(ModswapError) as raised:
        modswap.replace(model, match="7", with_="ECA", inputs=[(1, 3, 8, 8)])
    assert raised.value.where == "match"
    with pytest.raises(ModswapError) as raised:
        modswap.insert(model, after="1", with_="ECA", inputs=[(1, 3, 8, 8)], args={"size": 3})
    assert raised.value.where == "args"
    with pytest.raises(InputError):
        modswap.insert(model, after="1", with_="ECA", inputs=[(1, 4, 8, 8)])


def test_a_saved_file_knows_all_swaps_of_its_model(tmp_path: Path) -> None:
    model, x = net(), torch.randn(1, 3, 8, 8)
    modswap.insert(model, after="0", with_="ECA")
    modswap.replace(model, match="2", with_="SEBlock")

    modswap.save(model, tmp_path / "out.safetensors")

    again = modswap.load(tmp_path / "out.safetensors", model="tests.ops.test_rule_call:net")
    assert torch.equal(again.eval()(x), model.eval()(x))


def test_a_recipe_and_a_rule_exclude_each_other() -> None:
    recipe = recipe_of_call({"match": "2", "with_": "ECA"}, [(1, 3, 8, 8)])

    with pytest.raises(UsageError, match="a recipe and match exclude each other"):
        modswap.replace(net(), recipe, match="2")
    with pytest.raises(UsageError, match="a recipe and inputs exclude each other"):
        modswap.replace(net(), recipe, inputs=[(1, 3, 8, 8)])
    assert modswap.replace(net(), recipe).ok

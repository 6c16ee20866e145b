"""The types of the public interface, checked by mypy: `make lint` reads this file.

mypy fails where an `assert_type` does not hold. It also fails where a call that must be wrong is
accepted, since it then reports an unused `type: ignore`. Nothing in `calls` is run.
"""

import inspect
from pathlib import Path
from typing import assert_type, get_type_hints

import pytest
import torch
from torch import Tensor

import modswap
from modswap import Outcome, Recipe
from modswap.core.kept.outcome import Written
from modswap.nn import ECA, BiLevelRoutingAttention, Routing


def calls(model: torch.nn.Module, recipe: Recipe) -> None:
    """Call every public function, rightly and wrongly."""
    assert_type(modswap.__version__, str)
    assert_type(modswap.load("net.pt"), torch.nn.Module)
    assert_type(modswap.load(Path("net.pt"), "nets:build", allow=["nets.*"]), torch.nn.Module)
    assert_type(modswap.read_recipe("swap.yaml"), Recipe)
    assert_type(modswap.apply_recipe(model, recipe), torch.nn.Module)
    outcome = modswap.replace(model, recipe)
    assert_type(outcome, Outcome)
    assert_type(outcome.ok, bool)
    assert_type(outcome.sites[0].path, str)
    assert_type(modswap.save(model, "out.pt", recipe=recipe), Written)

    modswap.load(3)  # type: ignore[arg-type] # a file is a text or a path
    modswap.load("net.pt", allow=3)  # type: ignore[arg-type] # names come in a sequence
    modswap.read_recipe(recipe)  # type: ignore[arg-type] # it is read already
    modswap.replace(model, "swap.yaml")  # type: ignore[arg-type] # it has to be read first
    modswap.replace(recipe, model)  # type: ignore[arg-type] # the model comes first
    modswap.apply_recipe(model)  # type: ignore[call-arg] # the recipe is missing
    modswap.save(model, "out.pt", recipe)  # type: ignore[call-arg] # the recipe is named


def layers(x: Tensor) -> None:
    """Make and call layers of the catalogue."""
    attention = BiLevelRoutingAttention(16, num_heads=2, topk=4, layout="NCHW")
    assert_type(attention.forward(x), Tensor | tuple[Tensor, Routing] | tuple[Tensor, ...])
    assert_type(ECA(16).forward(x), Tensor)

    BiLevelRoutingAttention("16")  # type: ignore[arg-type] # a number of channels
    BiLevelRoutingAttention(16, layout="CHW")  # type: ignore[arg-type] # there is no such layout
    ECA(16, kernel=3)  # type: ignore[call-arg] # it is called k_size


@pytest.mark.parametrize(
    "name", ["load", "read_recipe", "replace", "insert", "apply_recipe", "save"]
)
def test_every_argument_and_result_of_a_public_function_has_a_type(name: str) -> None:
    function = getattr(modswap, name)

    assert get_type_hints(function).keys() == {*inspect.signature(function).parameters, "return"}


def test_package_says_that_it_is_typed() -> None:
    assert Path(modswap.__file__).with_name("py.typed").is_file()

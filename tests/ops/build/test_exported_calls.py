"""Sites in graphs of torch.export: those whose calls are known, assumed or refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from modswap.core.decided.plan import Plan, make_plan
from modswap.core.errors import ShapeError
from modswap.io.formats.exported.program import ATTRIBUTE, export_of, unflattened
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.build.exported_calls import check_calls
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace.passes import trace
from modswap.ops.trace.sites import sites_of


class Mix(nn.Module):
    """Weighs two maps of one size and adds them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x * self.scale + y


class Times(nn.Module):
    """Multiplies a map by a number of the call, which becomes a part of its graph."""

    def forward(self, x: torch.Tensor, factor: int) -> torch.Tensor:
        return x * factor


class Net(nn.Module):
    """Calls a layer once, a module twice, and one with two maps: (N, 4, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.once = nn.Conv2d(4, 4, 1)
        self.twice = Times()
        self.mix = Mix()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.once(x)
        out: torch.Tensor = self.mix(self.twice(self.twice(x, 2), 3), x)
        return out


X = torch.ones(1, 4, 5, 5)


@pytest.fixture(scope="module")
def unsigned() -> nn.Module:
    return unflattened(torch.export.export(Net().eval(), (X,)), {})


@pytest.fixture
def signed() -> nn.Module:
    signatures = ("once", "mix")
    program = torch.export.export(Net().eval(), (X,), preserve_module_call_signature=signatures)
    return unflattened(program, {})


def planned(model: nn.Module, *matches: str) -> Plan:
    rules = ", ".join(f"{{match: {match}, with: SEBlock}}" for match in matches)
    recipe = parse_recipe(f"version: 1\nreplace: [{rules}]\n", "swap.yaml", ".")
    return make_plan(recipe, sites_of(model, [trace(model, Case(DummyCall((X,), {})))]))


def test_model_of_no_archive_is_not_looked_at() -> None:
    model = Net().eval()

    assert check_calls(model, planned(model, "mix")) == ()


def test_call_of_one_tensor_that_is_not_recorded_is_assumed_and_noted(unsigned: nn.Module) -> None:
    (note,) = check_calls(unsigned, planned(unsigned, "once"))

    assert note.startswith("the archive does not say how 'once' is called")


def test_call_of_several_tensors_that_is_not_recorded_is_refused(unsigned: nn.Module) -> None:
    with pytest.raises(ShapeError, match="does not say in which order") as caught:
        check_calls(unsigned, planned(unsigned, "mix"))

    assert caught.value.where == "mix"
    assert "preserve_module_call_signature=('mix',)" in caught.value.fix


@pytest.mark.parametrize("path", ["twice", "twice@1"])
def test_module_with_a_graph_for_each_of_its_calls_is_refused(
    unsigned: nn.Module, path: str
) -> None:
    with pytest.raises(ShapeError, match="it is called several times") as caught:
        check_calls(unsigned, planned(unsigned, path))

    assert caught.value.where == path


def test_refused_sites_are_named_together(unsigned: nn.Module) -> None:
    with pytest.raises(ShapeError) as caught:
        check_calls(unsigned, planned(unsigned, "mix", "once", "twice"))

    assert [error.where for error in caught.value.all] == ["mix", "twice"]


def test_recorded_call_needs_no_note(signed: nn.Module) -> None:
    assert check_calls(signed, planned(signed, "once", "mix")) == ()


def test_site_that_gets_more_inputs_than_its_code_takes_is_refused(signed: nn.Module) -> None:
    how = export_of(signed)
    assert how is not None
    vars(signed)[ATTRIBUTE] = replace(how, signed={"mix": 1})

    with pytest.raises(ShapeError, match="was given 1 inputs, the graph passes further inputs"):
        check_calls(signed, planned(signed, "mix"))

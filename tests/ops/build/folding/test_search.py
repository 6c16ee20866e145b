"""Layers that other layers can do the work of are found by a pass and by trying.

Covers: built, flow, new_modules, weights.
"""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.decided.blueprint import LayerFold
from modswap.core.kept.receipt import SiteRecord
from modswap.nn import CBAM
from modswap.ops.build.folding.flow import ModuleInputs
from modswap.ops.build.folding.new_modules import NewModules, fold_modules
from modswap.ops.build.folding.search import apart, merges_of, with_merges
from modswap.seeds import seeded
from tests.models import ReparamBlock

X = torch.randn(2, 8, 9, 7, generator=torch.Generator().manual_seed(0))


def drawn(module: nn.Module) -> nn.Module:
    with seeded(1):
        for name, tensor in module.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.normal_()
    return module.eval()


def folded(module: nn.Module, x: torch.Tensor = X) -> tuple[list[LayerFold], dict[str, str]]:
    """Return what is folded in a module, proved, and what stays."""
    inputs = ModuleInputs((x,), {})
    with torch.no_grad():
        found = merges_of(drawn(module), inputs)
        made = with_merges(module, found.found)
        assert apart(module(x), made(x)) <= 1e-5
    return [merge.fold for merge in found.found], dict(found.staying)


class Summed(nn.Module):
    """Two layers on one input, whose outputs are added with factors."""

    def __init__(self, one: nn.Module, other: nn.Module, factor: float = 1.0) -> None:
        super().__init__()
        self.one, self.other, self.factor = one, other, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x) + self.factor * self.other(x)  # type: ignore[no-any-return] # a module's output


class Watched(nn.Module):
    """A convolution whose output is normed, and used a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.bn(y) + y.relu()  # type: ignore[no-any-return] # a module's output


class Bounded(Summed):
    """The sum of two layers, of which the outputs of the first are bounded before."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x).clamp(-50, 50) + self.other(x)  # type: ignore[no-any-return] # a module's output


class Multiplied(Summed):
    """The sum of two layers, of which the outputs of the second are multiplied by the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x) + self.other(x) * x  # type: ignore[no-any-return] # a module's output


class Unit(nn.Module):
    """A unit of a library that folds it itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> Any:
        return self.bn(self.conv(x))

    def forward_fuse(self, x: torch.Tensor) -> Any:
        return self.conv(x)


def test_three_branches_become_one_convolution() -> None:
    assert folded(ReparamBlock(8)) == (
        [LayerFold("dense.0", ("dense.1", "point.1"), ("point.0", "skip"))],
        {},
    )


def by_channel() -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)


@pytest.mark.parametrize(
    ("module", "x", "expected"),
    [
        (nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6)), X[:, :, 0, 0], LayerFold("0", ("1",))),
        (nn.Sequential(nn.Conv1d(8, 6, 3), nn.BatchNorm1d(6)), X[:, :, 0], LayerFold("0", ("1",))),
        (
            nn.Sequential(by_channel(), nn.BatchNorm2d(8, affine=False)),
            X,
            LayerFold("0", ("1",)),
        ),
        (
            CBAM(8, reduction_ratio=2),
            X,
            LayerFold("SpatialGate.spatial.conv", ("SpatialGate.spatial.bn",)),
        ),
        (
            Summed(by_channel(), nn.BatchNorm2d(8)),
            X,
            LayerFold("one", (), ("other",)),
        ),
        (
            Summed(
                nn.Conv2d(8, 4, 5, dilation=2, padding="same"),
                nn.Conv2d(8, 4, 3, padding=2, dilation=2, groups=2),
            ),
            X,
            LayerFold("one", (), ("other",)),
        ),
        (
            Summed(
                nn.Conv2d(8, 4, (3, 1), padding=(1, 0), stride=2),
                nn.Conv2d(8, 4, 3, padding=1, stride=2),
            ),
            X,
            LayerFold("other", (), ("one",)),
        ),
    ],
)
def test_is_folded(module: nn.Module, x: torch.Tensor, expected: LayerFold) -> None:
    assert folded(module, x) == ([expected], {})


@pytest.mark.parametrize(
    ("module", "staying"),
    [
        (Watched(), {"bn": "the outputs would be others"}),
        (
            nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(8)),
            {"2": "the outputs"},
        ),
        (nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)), {"0": "no plain convolution"}),
        (Unit(), {"bn": "its class, Unit, folds it itself"}),
        (Summed(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1), 0.5), {}),
        (
            Summed(
                nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 8, 3, padding=1)
            ),
            {},
        ),
        (
            nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, track_running_stats=False)),
            {"1": "it takes its statistics from each batch"},
        ),
    ],
)
def test_stays(module: nn.Module, staying: dict[str, str]) -> None:
    found, reasons = folded(module)

    assert not found
    assert reasons.keys() == staying.keys()
    assert all(reasons[name].startswith(why) for name, why in staying.items())


@pytest.mark.parametrize("x", [X, torch.zeros_like(X), torch.ones_like(X)])
@pytest.mark.parametrize("cls", [Bounded, Multiplied])
def test_branches_stay_that_are_a_sum_on_the_given_input_alone(
    cls: type[Summed], x: torch.Tensor
) -> None:
    module = cls(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1, bias=False))

    assert folded(module, x) == ([], {})


def test_copies_of_inputs_are_without_a_graph_and_keep_what_is_one_tensor() -> None:
    x = torch.ones(2, 3, requires_grad=True) * 2
    inputs = ModuleInputs((x, x), {"mask": torch.tensor([True]), "zero": torch.zeros(2)})

    for made in (inputs.copied(), inputs.copied(torch.float64), inputs.drawn()):
        assert made.args[0] is made.args[1]
        assert made.args[0] is not x
        assert not made.args[0].requires_grad
        assert made.kwargs["mask"].dtype == torch.bool
    assert inputs.copied(torch.float64).dtype == torch.float64
    assert (made.args[0] > 0).all()
    assert made.kwargs["zero"].all()


def test_the_error_in_the_note_is_that_of_the_weights_as_they_are_stored() -> None:
    layers = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
    model = nn.ModuleDict({"new": drawn(layers).bfloat16()})
    given = {"new": ModuleInputs((X,), {})}
    news = NewModules(model, {"new": model["new"]}, ())

    (made,), errors = fold_modules(
        [news], [SiteRecord(paths=("new",), module="", args={})], [given]
    )

    with torch.no_grad():
        outputs = [copy.deepcopy(one).float()(X) for one in (model["new"], made["new"].module)]
    assert not errors
    assert f"its outputs within {apart(*outputs):.2g}" in made["new"].note
    assert apart(*outputs) > 1e-4


def test_weights_that_others_hold_stay() -> None:
    module = drawn(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)))

    found = merges_of(module, ModuleInputs((X,), {}), frozenset({id(module[0].weight)}))  # type: ignore[index] # a Sequential

    assert not found.found
    assert found.staying["1"].startswith("its weights, or those of the layer before it")

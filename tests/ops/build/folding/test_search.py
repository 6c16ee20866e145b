"""Layers that other layers can do the work of are found by a pass and by trying.

Covers: built, flow, new_modules, weights.
"""

from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.decided.blueprint import LayerFold
from modswap.nn import CBAM
from modswap.ops.build.folding.flow import ModuleInputs
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
        (nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)), {"0": "no convolution"}),
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


def test_weights_that_others_hold_stay() -> None:
    module = drawn(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)))

    found = merges_of(module, ModuleInputs((X,), {}), frozenset({id(module[0].weight)}))  # type: ignore[index] # a Sequential

    assert not found.found
    assert found.staying["1"].startswith("its weights, or those of the layer before it")

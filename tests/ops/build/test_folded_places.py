"""Places inside units that are made one layer: refused, with the unit that is safe."""

from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import ShapeError
from modswap.ops.recipes import parse_recipe
from tests.recipes import UNEXAMINED


def put_in(model: nn.Module, place: str, with_: str = "ECA") -> nn.Module:
    text = f"version: 1\n{UNEXAMINED}inputs: [{{shape: [2, 8, 6, 6]}}]\n"
    text += f"insert: [{{after: '{place}', with: {with_}}}]\n"
    modswap.replace(model, parse_recipe(text, "swap.yaml", "."))
    return model


class ConvUnit(nn.Module):
    """A convolution and its norm, with a forward for when they are one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, x: torch.Tensor) -> Any:
        return self.act(self.bn(self.conv(x)))

    def forward_fuse(self, x: torch.Tensor) -> Any:
        return self.act(self.conv(x))


class Branches(ConvUnit):
    """Two branches that become one by a method behind a decorator."""

    forward_fuse: Any = None

    @torch.no_grad()
    def fuse(self) -> torch.Tensor:
        return self.conv.weight + self.bn.weight[:, None, None, None]


class Folding(ConvUnit):
    """A unit whose method names the layer."""

    forward_fuse: Any = None

    def reparameterize(self) -> Any:
        return self.bn


class Whole(nn.Module):
    """A model whose `fuse` goes through its parts, or lets go of one."""

    def __init__(self, unit: nn.Module) -> None:
        super().__init__()
        self.unit, self.list = nn.Sequential(unit), nn.ModuleList([nn.Conv2d(8, 8, 1)])

    def forward(self, x: torch.Tensor) -> Any:
        return self.list[0](self.unit(x))

    def fuse(self) -> None:
        for one in self.modules():
            if isinstance(one, ConvUnit):
                one.bn.weight.data.zero_()


class Detecting(Whole):
    """A head whose `fuse` lets go of another."""

    def fuse(self) -> None:
        self.other = None


@pytest.mark.parametrize(
    ("unit", "part", "method"),
    [
        (ConvUnit(), "conv", "forward_fuse"),
        (ConvUnit(), "bn", "forward_fuse"),
        (Branches(), "conv", "fuse"),
        (Branches(), "bn", "fuse"),
        (Folding(), "bn", "reparameterize"),
    ],
)
def test_a_part_of_a_unit_that_is_folded_is_refused_with_the_unit(
    unit: nn.Module, part: str, method: str
) -> None:
    model = nn.Sequential(Whole(unit))

    with pytest.raises(ShapeError, match=f"`{method}` makes one layer of its weights") as raised:
        put_in(model, f"0.unit.0.{part}")

    assert raised.value.where == f"0.unit.0.{part}"
    assert raised.value.fix.endswith(": 0.unit.0")


@pytest.mark.parametrize("whole", [Whole, Detecting])
@pytest.mark.parametrize("place", ["0.unit.0", "0.unit.0.act", "0.list.0", "0.unit"])
def test_the_unit_its_activation_and_parts_of_a_model_are_places(
    whole: type[nn.Module], place: str
) -> None:
    assert "eca" in put_in(nn.Sequential(whole(ConvUnit())), place).get_submodule(place)._modules


def test_a_name_with_a_dot_is_no_unit() -> None:
    model = nn.Sequential(nn.Sequential())
    model[0]._modules["a.b"] = nn.Conv2d(8, 8, 1)

    assert "eca" in put_in(model, "0.a.b").get_submodule("0")._modules["a.b"]._modules  # type: ignore[union-attr] # it is there

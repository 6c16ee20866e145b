"""Errors about patterns that name an operation name the modules around it."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

import modswap
from modswap.core.errors import MatchError
from modswap.ops.recipes import parse_recipe
from tests.recipes import UNEXAMINED


class Joined(nn.Module):
    """Operations in a forward: (N, 8, 6, 6) -> (N, 16, 6, 6)."""

    def forward(self, x: torch.Tensor) -> Any:
        tokens = x.flatten(2)
        return torch.cat([x, F.scaled_dot_product_attention(tokens, tokens, tokens).view_as(x)], 1)


@pytest.mark.parametrize("key", ["match", "after"])
@pytest.mark.parametrize(
    ("pattern", "operation"),
    [
        ("torch.cat", "cat"),
        ("cat", "cat"),
        ("attention", "scaled_dot_product_attention"),
        ("F.scaled_dot_product_attention", "scaled_dot_product_attention"),
    ],
)
def test_the_error_about_an_operation_names_the_module_around_it(
    pattern: str, operation: str, key: str
) -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sequential(Joined()))
    rules = "replace" if key == "match" else "insert"
    text = f"version: 1\n{UNEXAMINED}inputs: [{{shape: [2, 8, 6, 6]}}]\n"
    text += f"{rules}: [{{{key}: '{pattern}', with: ECA}}]\n"

    with pytest.raises(MatchError, match=f"no module matches '{pattern}'") as raised:
        modswap.replace(model, parse_recipe(text, "swap.yaml", "."))

    around = "name the module around it: 1.0"
    assert raised.value.fix.startswith(f"`{operation}` is an operation and no module: {around}")
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("pattern", ["nowhere", "stem.*"])
def test_other_patterns_are_answered_as_before(pattern: str) -> None:
    text = f"version: 1\n{UNEXAMINED}inputs: [{{shape: [2, 8, 6, 6]}}]\n"
    text += f"replace: [{{match: '{pattern}', with: ECA}}]\n"

    with pytest.raises(MatchError, match=r"no module matches") as raised:
        modswap.replace(nn.Sequential(Joined()), parse_recipe(text, "swap.yaml", "."))

    assert "is an operation" not in raised.value.fix


class Skipping(nn.Module):
    """A small U-Net that joins a skip in its own forward, and another one inside a block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 4, 2, 2)
        self.up, self.head = nn.Upsample(scale_factor=2), nn.Conv2d(8, 2, 1)
        self.side = nn.Identity()
        self.relu, self.block = nn.ReLU(inplace=True), Block()

    def forward(self, x: torch.Tensor) -> Any:
        skip = self.stem(x)
        deep = self.side(self.down(skip))
        joined = self.head(torch.cat([self.up(deep), skip], 1))
        return self.block(self.relu(joined), skip)


class Block(nn.Module):
    """A block that is given a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> Any:
        return self.conv(torch.hstack([x, skip]))


ALL = "changes it for all that read it"
STEM = f"`after: stem` {ALL}: down, block, `cat`"
CAT = f"in the model's own forward; `after: up` {ALL}: `cat`; {STEM}"
HSTACK = f"name the module around it: block; `after: relu` {ALL}: block; {STEM}"


@pytest.mark.parametrize(
    ("pattern", "fix"),
    [
        ("torch.cat", f"`cat` is an operation and no module, {CAT}"),
        ("hstack", f"`hstack` is an operation and no module: {HSTACK}"),
    ],
)
def test_every_reader_of_what_an_operation_is_given_is_listed(pattern: str, fix: str) -> None:
    text = f"version: 1\n{UNEXAMINED}inputs: [{{shape: [2, 3, 6, 6]}}]\n"
    text += f"insert: [{{before: '{pattern}', with: ECA}}]\n"

    with pytest.raises(MatchError, match=r"no module matches") as raised:
        modswap.replace(Skipping(), parse_recipe(text, "swap.yaml", "."))

    assert raised.value.fix == fix


class UpTwice(nn.Module):
    """Two maps that one module makes larger before they are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = nn.Conv2d(3, 4, 1), nn.Upsample(scale_factor=2)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.stem(x)
        return torch.cat([self.up(y), self.up(y + 1)], 1)


def test_a_module_that_gives_several_inputs_is_named_once() -> None:
    text = f"version: 1\n{UNEXAMINED}inputs: [{{shape: [2, 3, 6, 6]}}]\n"
    text += "insert: [{before: torch.cat, with: ECA}]\n"

    with pytest.raises(MatchError, match=r"no module matches") as raised:
        modswap.replace(UpTwice(), parse_recipe(text, "swap.yaml", "."))

    assert raised.value.fix.count("`after: up`") == 1

"""Sites that are alike: run once, and kept apart by all but the values of their weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.ops.examine.alone.likeness import _same_modules
from tests.ops.examine.swapped_blocks import DIM, Unused, examine, failed, here, recipe

SHAPE = "[2, 6, 16]"
ALONE = ("gradients", "untouched", "copies", "dependence", "determinism")


class Block(nn.Module):
    """A layer of each kind that modules hold, and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.register_buffer("index", torch.arange(4))
        self.register_buffer("absent", None)
        self.table: dict[str, Any] = {"of": [1, (2.5, None)], "kinds": {torch.float32}}
        self.act = partial(torch.clamp, min=0)
        self.scale = torch.ones(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input."""
        return x


def _tie(block: Any) -> None:
    block.layers[1].weight = block.layers[0].weight


def _repeat(block: Any) -> None:
    block.layers[1] = block.layers[0]


def _name(block: Any) -> None:
    block.layers.append(nn.Identity())


def _half(block: Any) -> None:
    block.layers[0].half()


def _freeze(block: Any) -> None:
    block.layers[0].weight.requires_grad_(requires_grad=False)


def _permute(block: Any) -> None:
    block.index = torch.tensor([3, 2, 1, 0])


def _hook(block: Any) -> None:
    block.layers[0].register_forward_hook(lambda *_: None)


def _sparse(block: Any) -> None:
    block.scale = torch.ones(2).to_sparse()


def _bias(block: Any) -> None:
    block.layers[0].bias = None


def _kind(block: Any) -> None:
    block.layers[0] = nn.LazyLinear(4)


CHANGES: dict[str, Callable[[Any], object]] = {
    "tied weights": _tie,
    "a layer twice": _repeat,
    "a further layer": _name,
    "half precision": _half,
    "a frozen weight": _freeze,
    "another index": _permute,
    "a hook": _hook,
    "no bias": _bias,
    "a sparse tensor": _sparse,
    "another class": _kind,
    "training": lambda block: block.norm.eval(),
    "a number": lambda block: setattr(block.norm, "eps", 1e-3),
    "a number inside": lambda block: block.table.update(of=[1, (2.4, None)]),
    "another set": lambda block: block.table.update(kinds={torch.float16}),
    "an argument of a function": lambda block: setattr(block, "act", partial(torch.clamp, min=1)),
    "another function": lambda block: setattr(block, "act", torch.relu),
    "a tensor kept on it": lambda block: setattr(block, "scale", torch.zeros(2)),
    "another attribute": lambda block: setattr(block, "more", 1),
    "an object of an unknown kind": lambda block: setattr(block, "act", object()),
}


def test_modules_with_other_weights_and_statistics_are_alike() -> None:
    one, other = Block(), Block()
    other.norm(torch.randn(3, 4))

    assert _same_modules(one, other)


@pytest.mark.parametrize("change", CHANGES)
def test_any_other_difference_is_seen(change: str) -> None:
    one, other = Block(), Block()
    CHANGES[change](other)

    assert not _same_modules(one, other)
    assert not _same_modules(other, one)


def test_layers_without_shapes_are_like_no_other() -> None:
    assert not _same_modules(nn.LazyLinear(4), nn.LazyLinear(4))


class Runs(nn.Module):
    """A linear layer that counts the runs of all of its kind."""

    runs = 0

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the projected tokens."""
        Runs.runs += 1
        out: torch.Tensor = self.proj(x)
        return out


class SecondIsDeaf(Runs):
    """A module of which the second one that is made ignores its input."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        SecondIsDeaf.made += 1
        self.number = SecondIsDeaf.made % 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the projected tokens, or those of zeros."""
        out: torch.Tensor = self.proj(x if self.number else x * 0)
        return out


def blocks(count: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(DIM, DIM) for _ in range(count)))


def of_sites(found: list[Finding], check: str) -> list[Finding]:
    return [one for one in found if one.check == check and one.path]


def runs_of(count: int, head: str = "") -> int:
    Runs.runs = 0
    examine(blocks(count), recipe(here(Runs), "*", SHAPE, head=head), *ALONE)
    return Runs.runs


def test_what_passes_at_a_site_is_run_there_alone() -> None:
    of_each = runs_of(4, "verify: {thorough: true}") - runs_of(4)

    assert of_each >= 3 * len(ALONE)


def test_what_passes_at_a_site_is_reported_at_all_that_are_alike() -> None:
    found = examine(blocks(4), recipe(here(Runs), "*", SHAPE), *ALONE)

    assert failed(found) == []
    assert [site.path for site in of_sites(found, "copies")] == ["0", "1", "2", "3"]
    assert [site.data.get("like") for site in of_sites(found, "copies")] == [None, "0", "0", "0"]


def test_a_site_that_is_not_alike_is_examined_by_itself() -> None:
    SecondIsDeaf.made = 0

    found = examine(blocks(2), recipe(here(SecondIsDeaf), "*", SHAPE), *ALONE)

    assert {path for _, path in failed(found)} == {"1"}
    assert all("like" not in one.data for one in found)


def test_a_fault_is_reported_at_each_of_the_sites_that_are_alike() -> None:
    found = examine(blocks(3), recipe(here(Unused), "*", SHAPE), "gradients")

    assert failed(found) == [("gradients", "0"), ("gradients", "1"), ("gradients", "2")]


def test_each_site_is_run_if_the_examination_is_thorough() -> None:
    thorough = recipe(here(Runs), "*", SHAPE, head="verify: {thorough: true}")

    found = examine(blocks(2), thorough, "copies")

    assert [one.data.get("like") for one in of_sites(found, "copies")] == [None, None]

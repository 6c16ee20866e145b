"""Writes of a new module into inputs, buffers and flags.

Covers: alone.readers.
"""

import random
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from tests.ops.examine.swapped_blocks import (
    DIM,
    Counts,
    Draws,
    Wrap,
    examine,
    failed,
    here,
    recipe,
)


class DrawsUnused(nn.Module):
    """Draws an unused number from Python's generator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        random.random()
        return x * 2


class Overwrites(nn.Module):
    """Doubles its input in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


class OverwritesNothing(nn.Module):
    """Writes the values of its input into it again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp_(-1e4, 1e4) * 2


class CountsInto(nn.Module):
    """Writes a buffer and its input."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return x.mul_(2) * 3


class Switches(nn.Module):
    """Sets its own flag."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.training = True
        return x * 2


@pytest.mark.parametrize(
    ("new", "changed", "fix"),
    [
        (Overwrites, ["its input 'input'"], "take `inplace=True`"),
        (OverwritesNothing, ["its input 'input'"], "take `inplace=True`"),
        (CountsInto, ["'seen'", "its input 'input'"], "away; write only where `self.training`"),
    ],
)
def test_an_input_that_is_written_into_is_reported(
    new: type[nn.Module], changed: list[str], fix: str
) -> None:
    model = Wrap(nn.Linear(DIM, DIM), lambda block, x: x + block(x))

    found = examine(model, recipe(here(new)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path, fault.data) == ("untouched", "block", {"changed": changed})
    assert fix in fault.fix


def halves(block: nn.Module, x: torch.Tensor) -> Any:
    first, second = x[..., : DIM // 2], x[..., DIM // 2 :]
    return torch.cat([first * 1, block(second) * 2], -1)


def needed_to_go_backward(block: nn.Module, x: torch.Tensor) -> Any:
    return block(x.sigmoid())


@pytest.mark.parametrize(
    ("model", "harm"),
    [
        (Wrap(nn.Linear(DIM, DIM), needed_to_go_backward), "training raises"),
        (nn.Sequential(OrderedDict(block=nn.Linear(DIM, DIM))), "the model's own input"),
        (Wrap(nn.Linear(DIM, DIM), lambda block, x: x * block(x)), "reads it again (mul)"),
        (Wrap(nn.Linear(DIM, DIM)), ""),
        # its inputs are freed, and others get their memory
        (Wrap(nn.Linear(DIM, DIM), lambda block, x: (block(x * 1) + 1) * x.cos().sin()), ""),
        (Wrap(nn.Linear(DIM, DIM), lambda block, x: block(x.relu()) + 1), "training raises"),
        (Wrap(nn.Linear(DIM // 2, DIM // 2), halves), ""),
        (Wrap(nn.Linear(DIM, DIM), lambda block, x: (block(x) + 1, x.view(-1))), ""),
    ],
    ids=[
        "backward",
        "caller",
        "read again",
        "nothing",
        "let go",
        "backward of relu",
        "other half",
        "view",
    ],
)
def test_writing_into_an_input_fails_only_where_that_does_harm(model: nn.Module, harm: str) -> None:
    found = examine(model, recipe(here(Overwrites)))

    (told,) = [one for one in found if one.check == "untouched"]
    assert told.status == ("failed" if harm else "passed")
    assert (harm or "which nothing reads afterwards") in told.what


def test_an_input_that_the_original_wrote_into_as_well_is_sound() -> None:
    found = examine(Wrap(Overwrites()), recipe(here(OverwritesNothing)))

    assert failed(found) == []


@pytest.mark.parametrize(
    ("new", "what"),
    [
        (Draws, "changes the global random state"),
        (DrawsUnused, "changes the global random state"),
        (Counts, "changes 'seen'"),
        (Switches, "changes the training flag"),
    ],
)
def test_fault_of_a_module_alone_is_found(new: type[nn.Module], what: str) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)), "untouched")

    (fault,) = [one for one in found if one.path and one.status == "failed"]
    assert what in fault.what

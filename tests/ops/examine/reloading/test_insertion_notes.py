"""What is put in and then passed by is said: under checkpointing, and by synchronized norms."""

from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.finding import Finding
from modswap.ops.examine.table import examination_names
from modswap.ops.recipes import parse_recipe

SKIPPED = f"verify: {{skip: [{', '.join(n for n in examination_names() if n != 'survival')}]}}"


class Stages(nn.Module):
    """Two stages whose members run one by one, if it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
        self.members = False

    def set_grad_checkpointing(self, enable: bool) -> None:
        self.members = enable

    def forward(self, x: torch.Tensor) -> Any:
        if not self.members:
            return self.two(self.one(x))
        for layer in chain(self.one, self.two):
            x = layer(x)
        return x


class Refusing(Stages):
    """A model that has the method, and no use for it."""

    def set_grad_checkpointing(self, enable: bool) -> None:
        raise NotImplementedError(enable)


def notes(model: nn.Module, place: str) -> list[Finding]:
    text = f"version: 1\n{SKIPPED}\ninputs: [{{shape: [2, 8, 6, 6]}}]\n"
    text += f"insert: [{{after: '{place}', with: ECA}}]\n"
    outcome = modswap.replace(model, parse_recipe(text, "swap.yaml", "."))
    assert outcome.verdict is not None
    return [one for one in outcome.verdict.findings if one.check == "survival"]


@pytest.mark.parametrize(("stage", "last"), [("one", 2), ("two", 1)])
def test_a_stage_whose_members_are_run_is_named_with_its_last_member(stage: str, last: int) -> None:
    (found,) = notes(Stages(), stage)

    assert (found.path, found.status) == (f"{stage}.eca", "passed")
    assert "after `set_grad_checkpointing`" in found.what
    assert f"after {stage}.{last}" in found.fix
    assert notes(Stages(), f"{stage}.{last}") == []


@pytest.mark.parametrize("model", [Refusing(), nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())])
def test_a_model_without_checkpointing_has_no_note(model: nn.Module) -> None:
    assert notes(model, "two" if isinstance(model, Refusing) else "0") == []


def test_a_batch_norm_is_to_be_converted_first() -> None:
    model = Stages()

    (found,) = notes(model, "one.1")

    assert "convert_sync_batchnorm" in found.what
    converted: Any = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert "_inserted" not in vars(converted.one[1])  # as the note says, nothing runs it there

"""Gradients that are missing, cut off or not finite."""

import pytest
import torch
from torch import nn

from tests.ops.examine.swapped_blocks import DIM, Unused, Wrap, examine, here, recipe


class Detached(nn.Module):
    """Cuts its input off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach() * 2


class NotFiniteBack(nn.Module):
    """A finite output with an infinite gradient: the root's slope at zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (x - x.detach()).abs().sqrt()


class TrainingDies(nn.Module):
    """Raises in training mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("no training here")
        return x * 2


@pytest.mark.parametrize(
    ("new", "what"),
    [
        (Unused, "no gradient reaches 'forgotten.weight', 'forgotten.bias'"),
        (Detached, "the input 'input' moves the output, and no gradient reaches it"),
        (NotFiniteBack, "the gradient of 'input' is not finite"),
        (TrainingDies, "it raises in training mode"),
    ],
)
def test_fault_of_a_module_alone_is_found(new: type[nn.Module], what: str) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)), "gradients")

    (fault,) = [one for one in found if one.path and one.status == "failed"]
    assert what in fault.what

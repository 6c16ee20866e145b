"""New modules that raise on real values, or whose outputs are not finite."""

import pytest
import torch
from torch import nn

from tests.ops.examine.swapped_blocks import DIM, Causal, NotFinite, Wrap, examine, here, recipe


class RaisesOnValues(nn.Module):
    """Reads beyond the end, which raises on real values alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., torch.arange(x.shape[-1]) + 1] * self.weight


def test_module_that_raises_on_real_values_alone_is_found_once() -> None:
    found = examine(Wrap(Causal()), recipe(here(RaisesOnValues)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("finite", "block")
    assert "on real values it raises, as the original does not: IndexError" in fault.what


@pytest.mark.parametrize(
    ("new", "what"),
    [
        (NotFinite, "the output is not finite"),
    ],
)
def test_fault_of_a_module_alone_is_found(new: type[nn.Module], what: str) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)), "finite")

    (fault,) = [one for one in found if one.path and one.status == "failed"]
    assert what in fault.what

"""Outputs that differ from call to call."""

import pytest
from torch import nn

from tests.ops.examine.swapped_blocks import DIM, Draws, Wrap, examine, here, recipe


@pytest.mark.parametrize(
    ("new", "what"),
    [
        (Draws, "gives another output each time"),
    ],
)
def test_fault_of_a_module_alone_is_found(new: type[nn.Module], what: str) -> None:
    found = examine(Wrap(nn.Linear(DIM, DIM)), recipe(here(new)), "determinism")

    (fault,) = [one for one in found if one.path and one.status == "failed"]
    assert what in fault.what

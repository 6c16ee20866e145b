"""Modules give the model's output where no layer with weights reads what they give."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.core.seen.site import Site
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.trace.last_modules import LastModules

Forward = Callable[["Net", torch.Tensor], object]
functional = nn.functional
CASE = Case(DummyCall((TensorInput(shape=(2, 4)),), {}))


class Net(nn.Module):
    """A layer, and what is made of its output: (N, 4) -> as `after` says."""

    def __init__(self, after: Forward) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4, bias=False)
        self.dropout = nn.Dropout()
        self.scale = nn.Parameter(torch.ones(4))
        self.after = after

    def forward(self, x: torch.Tensor) -> object:
        return self.after(self, self.layer(x))


def drawn(net: Net, y: torch.Tensor) -> torch.Tensor:
    if y.sum().item() > 1e9:
        raise ValueError
    return y


def failing(net: Net, y: torch.Tensor) -> torch.Tensor:
    raise ValueError


@pytest.mark.parametrize(
    ("after", "is_last"),
    [
        (lambda net, y: y, True),
        (lambda net, y: {"a": [y.softmax(1)]}, True),
        (lambda net, y: net.dropout(y), True),
        (lambda net, y: torch.cat([y, net.other(torch.ones(2, 4, device=y.device))], 1), True),
        (lambda net, y: net.other(y), False),
        (lambda net, y: functional.linear(y, net.other.weight), False),
        (lambda net, y: y * net.scale.exp()[None], False),
        (lambda net, y: (y, net.other(y.relu())), False),
        (lambda net, y: torch.ones(2, 4), None),
        (drawn, True),  # not to be run without data
        (failing, None),
    ],
)
def test_module_is_last_where_no_weights_read_its_output(
    after: Forward, is_last: bool | None
) -> None:
    last = LastModules(Net(after).eval(), [CASE], seed=0, unreal=False)

    assert last.is_last(Site("layer", "Linear")) is is_last
    assert last.is_last(Site("layer", "Linear", beside=Site("layer", "Linear"))) is None

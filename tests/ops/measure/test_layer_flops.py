"""FLOPs of every module of a pass."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modswap.core.asked.recipe import TensorInput
from modswap.ops.measure.layer_flops import layer_flops
from modswap.ops.run.inputs import Case, DummyCall
from tests.models import GatedNet, SharedNet

CASE = Case(DummyCall((TensorInput(shape=(1, 3, 28, 28)),), {}))


def test_modules_count_what_torchs_own_counter_does() -> None:
    net = GatedNet().eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(torch.ones(1, 3, 28, 28))

    found = layer_flops(net, CASE)

    own = counter.get_flop_counts()
    assert found[net] == counter.get_total_flops() > 0
    for path in ("stem", "space_attention"):
        assert found[net.get_submodule(path)] == sum(own[f"GatedNet.{path}"].values())
    assert not net._forward_hooks
    assert not net._forward_pre_hooks


def test_calls_of_a_shared_module_are_added() -> None:
    net = SharedNet().eval()
    shared = net.get_submodule("first")

    found = layer_flops(net, Case(DummyCall((TensorInput(shape=(1, 8, 4, 4)),), {})))

    conv = 2 * 8 * 8 * 3 * 3 * 4 * 4
    assert found[shared] == 2 * conv
    assert found[net] == found[shared]


class OfValues(nn.Module):
    """A module that cannot run without values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[: int(x.sum().item())]


def test_model_that_needs_values_has_no_count() -> None:
    assert layer_flops(OfValues(), CASE) == {}

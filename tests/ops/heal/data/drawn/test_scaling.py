"""Scale and offset of inputs, by the statistics of the first batch norm.

Covers: norms.
"""

from typing import Any

import pytest
import torch
from torch import nn

from modswap.ops.heal.data.drawn import scaling
from modswap.ops.heal.data.drawn.norms import first_norm, misfit, trained_norms
from modswap.ops.heal.data.drawn.scaling import NORMAL, input_scale
from modswap.ops.heal.data.taker import Taker
from tests.ops.heal.data.takers import taker_of, trained


def normal(channels: int = 1) -> torch.Tensor:
    return torch.randn(16, channels, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("std", "mean", "channels"), [(0.3, 0.3, 1), (1.0, 0.0, 3), (60.0, 115.0, 3)]
)
def test_scale_of_the_training_is_found(std: float, mean: float, channels: int) -> None:
    net = trained(std, mean, channels=channels)

    found = input_scale(taker_of(net, 1, channels, 16, 16), 0, normal(channels))

    assert found.std == pytest.approx(std, rel=0.1)
    assert found.mean == pytest.approx(mean, abs=0.1 * std)
    assert found.norm == "1"
    assert found.misfit < 0.01
    assert str(found).endswith("which fit the statistics of its first batch norm, '1', best")
    again = input_scale(taker_of(net, 1, channels, 16, 16), 0, normal(channels), found)
    assert again.std == pytest.approx(std, rel=0.1)


class Squared(nn.Module):
    """A net whose first norm does not get a linear function of the input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8, momentum=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(self.conv(x).relu())
        return out


def test_scale_is_found_where_the_norm_is_not_behind_a_convolution_alone() -> None:
    net = Squared().train()
    with torch.no_grad():
        net(torch.randn(128, 1, 16, 16) * 0.5 + 0.2)

    found = input_scale(taker_of(net.eval(), 1, 1, 16, 16), 0, normal())

    assert found.std == pytest.approx(0.5, rel=0.15)
    assert found.mean == pytest.approx(0.2, abs=0.1)


def test_scale_without_passes_is_that_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    taker = taker_of(trained(0.3, 0.3), 1, 1, 16, 16)
    quick = input_scale(taker, 0, normal())
    monkeypatch.setattr(scaling, "LINEAR", -1.0)

    slow = input_scale(taker, 0, normal())

    assert quick.std == pytest.approx(slow.std, rel=1e-3)
    assert quick.mean == pytest.approx(slow.mean, rel=1e-3)
    assert quick.misfit == pytest.approx(slow.misfit, abs=1e-4)


def test_model_without_trained_norms_gets_normal_numbers() -> None:
    fresh = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False))
    never = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Identity())
    never[1].add_module("inner", trained(1.0, 2.0))  # no pass reaches it
    untracked = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, track_running_stats=False))

    for net in (fresh, never, untracked):
        assert input_scale(taker_of(net, 1, 1, 16, 16), 0, normal()) == NORMAL
    assert "mean 0 and deviation 1, since the model has no batch norm" in str(NORMAL)


def test_model_stays_as_it_was() -> None:
    net = trained(0.5, 0.1).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}

    input_scale(taker_of(net, 1, 1, 16, 16), 0, normal())

    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert not any(module._forward_pre_hooks for module in net.modules())


class Wrapped(nn.Module):
    """A norm of a library: buffers alone show that it is one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.full((1,), 2.0))
        self.register_buffer("running_var", torch.full((1,), 4.0))
        self.net = net

    def forward(self, x: torch.Tensor) -> Any:
        return self.net((x - self.running_mean) / self.running_var)  # type: ignore[operator] # buffers


def test_norm_is_known_by_its_buffers_and_the_first_that_is_reached() -> None:
    model = Wrapped(trained(1.0, 0.0))
    norms = trained_norms(model)

    reached = first_norm(model, norms, Taker(model, taker_of(model).call).batch({0: normal()}))

    assert [norm.path for norm in norms] == ["", "net.1", "net.4"]
    assert reached is not None
    assert reached[0].path == ""
    assert torch.equal(reached[1], normal())


def test_misfit_of_the_right_statistics_is_nothing() -> None:
    (norm, *_) = trained_norms(Wrapped(nn.Identity()))
    right = 2 + 2 * normal().view(1, 16, 1, 16, 16)

    both = torch.cat([right, right * 100, right + 2])

    found = misfit(norm, both)
    assert float(found[0]) < 0.02
    assert float(found[1]) == 20
    assert 0.9 < float(found[2]) < 1.1

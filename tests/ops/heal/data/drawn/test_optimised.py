"""Drawn inputs that are optimised."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from modswap.core.errors import InputError
from modswap.ops.heal.data.drawn import optimised
from modswap.ops.heal.data.open import open_samples
from modswap.ops.heal.data.taker import DataRequest
from tests.ops.heal.data.takers import taker_of, trained

STEPS = DataRequest(most=40, optimise_steps=12, mean=(0.4,), std=(0.8,))


def test_optimised_pictures_are_nearer_to_all_norms() -> None:
    net = trained(0.3, 0.4)
    net.get_buffer("1.running_var")[0] = 0  # a channel without a signal
    taker = taker_of(net, 1, 1, 16, 16)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    steps: list[str] = []

    drawn = open_samples("none", taker, DataRequest(most=40, mean=(0.4,), std=(0.8,)))
    samples = open_samples("none", taker, STEPS, steps.append)
    x = samples.batch(range(40)).args[0]

    assert samples.count == 40
    assert samples.description == "40 drawn pictures, 16x16, optimised"
    words = samples.notes[-1].split()
    assert words[:6] == ["they", "were", "optimised", "in", "12", "steps"]
    assert float(words[-1]) < 0.9 * float(words[-3])
    assert x.isfinite().all()
    assert not torch.equal(x, drawn.batch(range(40)).args[0])
    assert steps[-1] == "optimising drawn samples: 32 of 40"
    assert torch.equal(x, open_samples("none", taker, STEPS).batch(range(40)).args[0])
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_worse_steps_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimised, "RATE", 100.0)
    taker = taker_of(trained(0.3, 0.4), 1, 1, 16, 16)

    samples = open_samples("none", taker, STEPS)

    words = samples.notes[-1].split()
    assert float(words[-1]) <= float(words[-3])


def test_samples_of_a_model_without_norms_stay() -> None:
    never = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Identity())
    never[1].add_module("inner", trained(1.0, 2.0))
    for net in (nn.Conv2d(1, 4, 3), never):
        samples = open_samples("none", taker_of(net, 1, 1, 16, 16), STEPS)
        assert samples.description == "40 drawn pictures, 16x16"


def test_more_samples_than_the_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimised, "available", lambda: 1000)

    with pytest.raises(InputError, match=r"none: optimised samples take 0\.0 GB, 0\.0 GB are free"):
        open_samples("none", taker_of(trained(0.3, 0.4), 1, 1, 16, 16), STEPS)


def test_numbers_by_name_are_optimised_too() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=None)).train()
    with torch.no_grad():
        net(torch.randn(256, 4) @ torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0])))

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net.eval()

        def forward(self, *, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.net(x)
            return out

    taker = taker_of(Named(), 1, 4)
    taker = type(taker)(taker.model, type(taker.call)((), {"x": taker.call.args[0]}))

    samples = open_samples("none", taker, DataRequest(most=32, optimise_steps=30))

    assert samples.batch([1, 2]).kwargs["x"].shape == (2, 4)
    words = samples.notes[-1].split()
    assert float(words[-1]) < float(words[-3])


def test_steps_end_with_the_time_that_is_allowed() -> None:
    taker = taker_of(trained(0.3, 0.4), 1, 1, 16, 16)
    short = replace(STEPS, optimise_seconds=1e-9)

    samples = open_samples("none", taker, short)

    assert "optimised in 0 to 12 steps, as the time allowed, to the statistics" in samples.notes[-1]
    assert torch.equal(
        samples.batch(range(40)).args[0],
        open_samples("none", taker, replace(STEPS, optimise_steps=0)).batch(range(40)).args[0],
    )

"""The steps of a fit: rates, the order of the samples, mixed precision."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from modswap.ops.heal.fitting.pace import Order, Pace, mixed, one_cycle, seed_of_step


@pytest.mark.parametrize("steps", [7, 40, 400])
def test_the_cycle_of_the_rate_is_torchs(steps: int) -> None:
    optimizer = torch.optim.AdamW(nn.Linear(1, 1).parameters(), 1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, pct_start=0.15)
    for step in range(steps):
        (group,) = optimizer.param_groups

        assert one_cycle(step, steps) == pytest.approx((group["lr"], group["betas"][0]), abs=1e-9)

        optimizer.step()
        if step + 1 < steps:
            cycle.step()


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_few_steps_have_rates_too(steps: int) -> None:
    shares = [one_cycle(step, steps)[0] for step in range(steps)]

    assert all(0 < share <= 1 for share in shares)


def test_a_round_has_each_sample_once_in_another_order() -> None:
    order = Order(range(100, 110), Pace(9, batch=5, seed=1))
    steps = [order.chosen(step) for step in range(4)]

    assert sorted(steps[0] + steps[1]) == list(range(100, 110))
    assert sorted(steps[2] + steps[3]) == list(range(100, 110))
    assert steps[:2] != steps[2:]
    assert Order(range(100, 110), Pace(9, batch=5, seed=1)).chosen(3) == steps[3]
    assert Order(range(100, 110), Pace(9, batch=5, seed=2)).chosen(3) != steps[3]


def test_fewer_samples_than_a_batch_are_a_batch() -> None:
    assert sorted(Order([4, 7], Pace(3, batch=64)).chosen(2)) == [4, 7]


def test_seeds_differ_by_step_and_by_seed() -> None:
    assert len({seed_of_step(seed, step) for seed in range(3) for step in range(-2, 3)}) == 15


def test_ten_measurements_are_made_unless_a_number_is_given() -> None:
    assert Pace(400).judged_every == 40
    assert Pace(3).judged_every == 1
    assert Pace(400, every=7).judged_every == 7


def test_the_cpu_computes_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(mixed(torch.device("cpu")), nullcontext)
    assert isinstance(mixed(torch.device("meta")), nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert isinstance(mixed(torch.device("cuda")), nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    asked: list[object] = []
    monkeypatch.setattr(torch, "autocast", lambda *args: asked.extend(args))
    mixed(torch.device("cuda"))
    assert asked == ["cuda", torch.bfloat16]

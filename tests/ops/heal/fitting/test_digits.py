"""Fits of new modules in a classifier of digits, without labels."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.healed.agreement import Agreement
from modswap.nn import ACmix, BiLevelRoutingAttention
from modswap.ops.heal.fitting.end import EndFit, fit_end
from modswap.ops.heal.fitting.local import LocalFit, fit_local
from modswap.ops.heal.fitting.pace import Pace
from modswap.ops.heal.fitting.stored import Room
from modswap.ops.heal.measures.agreement import accuracy, agreement
from modswap.ops.heal.measures.metric import metric_for
from modswap.ops.heal.samples import HeldSamples

CHANNELS, LEARN, JUDGE = 16, range(400), range(400, 500)
TEST = range(1100, 1797)


def digits() -> HeldSamples:
    # a second, in each process that collects the tests
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
    return HeldSamples((pictures[order],), labels=torch.tensor(found.target)[order])


@pytest.fixture(scope="module")
def samples() -> HeldSamples:
    return digits()


@pytest.fixture(scope="module")
def original(samples: HeldSamples) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU()),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(16 * CHANNELS, 10)),
    )
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for step in range(240):
        batch = samples.batch([(64 * step + place) % 1100 for place in range(64)])
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(*batch.args), batch.labels).backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(
            lambda: BiLevelRoutingAttention(CHANNELS, n_win=4, layout="NCHW"),
            id="BRA",
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda: ACmix(CHANNELS, CHANNELS), id="ACmix", marks=pytest.mark.slow),
    ],
)
def test_a_convolution_of_the_main_path_is_learned_from_random(
    original: nn.Sequential, samples: HeldSamples, build: Callable[[], nn.Module]
) -> None:
    model = copy.deepcopy(original)
    torch.manual_seed(0)
    model[1] = build().eval()
    metric = metric_for(original(*samples.batch(JUDGE).args))

    def judged(indices: Sequence[int] = JUDGE) -> Agreement:
        return agreement(original, model, samples, indices, 256, metric)

    def pairs(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
        x = original[0](*samples.batch(indices).args)
        return [((x,), {}, original[1](x))]

    before = judged(TEST)
    task = LocalFit("1", model[1], model[1], pairs, LEARN, judged)
    local = fit_local(task, Pace(160, rate=1e-2), room=Room(1 << 28))
    after = judged(TEST)
    end = fit_end(EndFit(original, model, [model[1]], samples, LEARN, judged), Pace(40, rate=2e-3))
    last = judged(TEST)

    assert (accuracy(original, samples, TEST, 256) or 0) > 0.95
    assert before.value < 0.3
    assert after.value > 0.95
    assert last.value > 0.97
    assert end.after is not None
    assert local.after is not None
    assert end.after.error < local.after.error
    assert (local.targets, local.ended) == (
        "inputs and targets kept in memory, 3.1 MiB",
        "all steps",
    )

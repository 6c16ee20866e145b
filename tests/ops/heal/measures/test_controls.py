"""The original disturbed, and a module dropped."""

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from modswap.ops.heal.measures.controls import Judged, disturbed, dropped, shifted
from modswap.ops.heal.measures.metric import metric_for
from modswap.ops.heal.samples import HeldSamples, Samples


class Pair(nn.Module):
    """A module that takes its input by keyword and gives a pair."""

    def forward(self, *, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -x, None


class Takes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.inner(x=x)[0]
        return made


@dataclass
class Record:
    """A record that torch does not enter."""

    x: torch.Tensor


class Records(nn.Module):
    def forward(self, x: torch.Tensor) -> Record:
        return Record(-x)


class Reads(nn.Module):
    def forward(self, record: Record) -> torch.Tensor:
        return record.x


def judged(model: nn.Module, samples: Samples) -> Judged:
    metric = metric_for(torch.randn(8, 3))
    return Judged(model, samples, range(samples.count), 4, metric)


PICTURES = HeldSamples((torch.rand(9, 1, 6, 6, generator=torch.Generator().manual_seed(0)),))


def test_the_original_disturbed_agrees_less_with_itself() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(128, 3))

    rows = disturbed(judged(net, PICTURES))

    assert [row.name for row in rows] == ["shifted by one pixel", "noise of 4/255"]
    assert all(row.agreement.count == 9 for row in rows)
    shift, noise = (row.agreement.error for row in rows)
    assert shift > noise > 0
    assert rows == disturbed(judged(net, PICTURES))


def test_noise_is_of_the_range_of_the_inputs() -> None:
    wide = HeldSamples((PICTURES.args[0] * 10 - 5,))
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3, bias=False))

    errors = [disturbed(judged(net, one))[1].agreement.error for one in (PICTURES, wide)]

    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_rows_do_not_shift_and_tokens_are_not_disturbed() -> None:
    rows = HeldSamples((torch.randn(9, 5),))
    tokens = HeldSamples((torch.arange(9).view(9, 1),))

    assert [row.name for row in disturbed(judged(nn.Linear(5, 3), rows))] == ["noise of 4/255"]
    assert disturbed(judged(nn.Embedding(9, 3), tokens)) == ()
    assert torch.equal(shifted(rows.args[0]), rows.args[0])
    assert shifted(torch.tensor([[[1, 2, 3]]])).tolist() == [[[1, 1, 2]]]


def test_a_dropped_module_gives_its_input() -> None:
    samples = HeldSamples((torch.randn(9, 3),))
    net = nn.Sequential(OrderedDict(same=nn.Linear(3, 3), last=nn.Linear(3, 3), end=Takes()))
    with torch.no_grad():
        net.get_submodule("same").weight.copy_(torch.eye(3))  # type: ignore[operator] # a tensor
        net.get_submodule("same").bias.zero_()  # type: ignore[operator] # a tensor

    same, end = (
        dropped(judged(net, samples), ["same"]),
        dropped(judged(net, samples), ["end.inner"]),
    )

    assert same is not None
    assert (same.name, same.agreement.value, same.agreement.error) == ("dropped", 1.0, 0.0)
    assert end is not None
    assert end.agreement.value < 1.0
    assert not net.get_submodule("same")._forward_hooks


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)),
        nn.Sequential(Records(), Reads()),
    ],
)
def test_a_module_whose_output_its_input_cannot_replace_is_not_dropped(net: nn.Module) -> None:
    samples = HeldSamples((torch.randn(9, 3),))

    assert dropped(judged(net, samples), ["0"]) is None

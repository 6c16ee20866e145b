"""Agreement of two models, on outputs whose agreement is counted by hand.

Covers: error, passes, scores.
"""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.errors import ShapeError
from modswap.ops.heal.measures.agreement import accuracy, agreement, agreement_of
from modswap.ops.heal.measures.error import ChannelSpread
from modswap.ops.heal.measures.metric import metric_for
from modswap.ops.heal.samples import Batch, HeldSamples


def logits(classes: list[int], sure: float = 5.0) -> torch.Tensor:
    return torch.eye(4)[classes] * sure


def compare(old: Any, new: Any, name: str, batch: Batch | None = None) -> Any:
    return agreement_of([(batch or Batch(()), old, new)], metric_for(old, name))


def test_classes_that_are_the_same_are_counted_and_the_confident_half_apart() -> None:
    old = logits([0, 1, 2, 3, 0, 1]) * torch.tensor([9, 1, 8, 2, 7, 3]).view(6, 1)
    new = logits([0, 0, 2, 0, 0, 0])

    found = compare(old, new, "top-1")

    assert (found.metric, found.value, found.confident, found.count) == ("top-1", 0.5, 1.0, 6)
    assert compare(old.softmax(1), new, "top-1").confident == 1.0
    assert compare(old, old, "top-1").error == 0.0


def test_a_class_of_numbers_that_are_not_finite_agrees_with_none() -> None:
    old = logits([0, 0, 1, 2])

    found = compare(old, torch.full_like(old, math.nan), "top-1")

    assert (found.value, found.error) == (0.0, math.inf)
    maps = torch.randn(2, 3, 4, 4)
    assert compare(maps, maps * math.nan, "dice").value == 0.0
    assert compare(old, old * math.nan, "cosine").value == 0.0
    assert compare(old, old * math.nan, "error").value == -math.inf


def test_tokens_count_where_the_attention_mask_has_them() -> None:
    old, new = logits([0, 1, 2, 3]).view(2, 2, 4), logits([0, 0, 2, 0]).view(2, 2, 4)
    mask = torch.tensor([[1, 1], [1, 0]])

    masked = compare({"logits": old}, {"logits": new}, "top-1", Batch((), {"attention_mask": mask}))

    assert compare({"logits": old}, {"logits": new}, "top-1").value == 0.5
    assert masked.value == pytest.approx(2 / 3)


def test_maps_overlap_by_class() -> None:
    old = logits([0, 0, 0, 1]).T.reshape(1, 4, 2, 2)
    new = logits([0, 0, 1, 1]).T.reshape(1, 4, 2, 2)

    assert compare(old, new, "dice").value == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert compare(old, new, "iou").value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert compare(old, new, "top-1").value == 0.75


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.1, 0.9)])
def test_of_one_channel_the_foreground_alone_counts(low: float, high: float) -> None:
    old = torch.full((3, 1, 2, 2), low)
    new = old.clone()
    old[0, 0, 0] = new[0, 0, 0, 0] = new[1, 0, 0, 0] = high  # the third has none

    found = compare(old, new, "dice")

    assert found.value == pytest.approx((2 / 3 + 0) / 2)
    assert compare(old * 0, new * 0, "dice").value == 0.0


def test_sentences_are_compared_by_the_mean_of_their_tokens() -> None:
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [5.0, 5.0]]])
    other = hidden.clone()
    other[1, 1] = -9.0  # a token that the mask leaves out
    batch = Batch((), {"attention_mask": torch.tensor([[1, 1], [1, 0]])})

    found = compare({"last_hidden_state": hidden}, {"last_hidden_state": other}, "cosine", batch)

    assert (found.value, found.confident, found.error) == (pytest.approx(1.0), None, 0.0)
    bare = compare({"last_hidden_state": hidden}, {"last_hidden_state": other}, "cosine")
    assert bare.value < 0.6
    pooled = {"last_hidden_state": hidden, "pooler_output": hidden[:, 0]}
    assert compare(pooled, {"pooler_output": hidden[:, 0], **pooled}, "cosine").value == 1.0
    assert compare(hidden[:, 0], -hidden[:, 0], "cosine").value == pytest.approx(-1.0)


def test_the_error_is_over_the_variance_of_each_channel() -> None:
    old = torch.randn(50, 3, 4, 4) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1) + 7
    mean = old.mean((0, 2, 3), keepdim=True).expand_as(old)

    assert compare(old, mean, "error").error == pytest.approx(1.0, abs=1e-5)
    assert compare(old, mean, "error").value == pytest.approx(0.0, abs=1e-5)
    assert compare(old, (old + mean) / 2, "error").error == pytest.approx(0.25, abs=1e-5)
    assert compare((old, old), (old, mean), "error").error == pytest.approx(0.5, abs=1e-5)


def test_large_outputs_are_summed_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = torch.randn(7, 3, 4), torch.randn(7, 3, 4)
    whole = compare(old, new, "error").error
    monkeypatch.setattr("modswap.ops.heal.measures.error.MOST_VALUES", 25)

    assert compare(old, new, "error").error == pytest.approx(whole)


def test_rows_without_channels_have_a_variance() -> None:
    spread = ChannelSpread()
    spread.add(torch.tensor([1.0, 3.0]))
    spread.add(torch.tensor([5.0]))

    assert spread.variance == pytest.approx(8 / 3)


def test_outputs_of_a_varying_width_have_an_error_over_all_of_them() -> None:
    pairs = [(Batch(()), torch.randn(4, 8, width), torch.zeros(4, 8, width)) for width in (5, 7)]

    found = agreement_of(pairs, metric_for(pairs[0][1], "error"))

    assert found.error == pytest.approx(1.0, abs=0.1)
    assert found.count == 8


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (torch.zeros(4, 5), r"the model's output: output was \(4, 3\), is now \(4, 5\)"),
        ({"b": torch.zeros(4, 3)}, "the model has no output ''"),
    ],
)
def test_other_outputs_are_refused(new: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        compare(torch.zeros(4, 3), new, "error")


@dataclass
class Named:
    logits: torch.Tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.last = nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3)
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor, *, factor: torch.Tensor) -> Named:
        self.seen.append(len(x))
        return Named(self.last(self.drop(self.norm(x))) * factor)


def test_two_models_are_run_in_evaluation_and_restored() -> None:
    torch.manual_seed(0)
    net, other = Net().double(), Net()
    other.load_state_dict(net.state_dict())
    samples = HeldSamples((torch.randn(10, 4),), kwargs={"factor": torch.ones(10, 1)})
    metric = metric_for(torch.randn(4, 3))
    state = [tensor.clone() for tensor in net.state_dict().values()]

    found = agreement(net, other, samples, [1, 3, 5, 7, 9], 2, metric)

    assert (found.value, found.confident, found.count) == (1.0, 1.0, 5)
    assert found.error < 1e-10
    assert net.training
    assert net.drop.training
    assert net.seen == []  # the list as it was
    assert all(map(torch.equal, state, net.state_dict().values()))
    assert agreement(net, other, samples, [], 2, metric).value == 0.0
    with torch.no_grad():
        other.last.weight.neg_()
    assert agreement(net, other, samples, range(10), 4, metric).value < 0.9


def test_accuracy_is_known_where_labels_fit() -> None:
    x = logits([0, 1, 2, 3])
    net = nn.Identity()

    def labelled(labels: torch.Tensor | None) -> float | None:
        return accuracy(net, HeldSamples((x,), labels=labels), range(4), 3)

    assert labelled(torch.tensor([0, 1, 2, 0])) == 0.75
    assert labelled(None) is None
    assert labelled(torch.rand(4)) is None
    assert labelled(torch.zeros(4, 2, dtype=torch.long)) is None
    assert accuracy(net, HeldSamples((torch.zeros(4),), labels=torch.arange(4)), [0], 1) is None
    assert accuracy(net, HeldSamples((x,), labels=torch.arange(4)), [], 1) is None

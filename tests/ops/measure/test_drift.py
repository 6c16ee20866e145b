"""The distance of a swapped model's outputs from those of the original."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from modswap.core.asked.recipe import TensorInput
from modswap.ops.measure.drift import Drift, drift_of
from modswap.ops.run.inputs import Case, DummyCall


class Scaled(nn.Module):
    """Return tensors of some sizes, times a factor."""

    def __init__(self, factor: float, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.factor, self.shapes = factor, shapes

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.factor * torch.ones(shape) * x.shape[0] for shape in self.shapes]


class Logits(nn.Module):
    """Return rows whose largest value is where `best` says."""

    def __init__(self, *best: int) -> None:
        super().__init__()
        self.best = best

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(torch.tensor(self.best), 3).to(x.dtype)


CASE = Case(DummyCall((TensorInput(shape=(2, 4)),), {}))


def drift(new: nn.Module, old: nn.Module) -> Drift:
    @contextmanager
    def original() -> Iterator[nn.Module]:
        yield old

    return drift_of(new, original, [CASE], 0)


@pytest.mark.parametrize(
    ("new", "old", "relative"),
    [
        (Scaled(3.0, (2, 5, 5)), Scaled(2.0, (2, 5, 5)), 0.5),
        (Scaled(2.0, (2, 5, 5), (1,)), Scaled(2.0, (2, 5, 5), (1,)), 0.0),
        (Scaled(1.0, (2, 3)), Scaled(0.0, (2, 3)), float("inf")),
        (Scaled(0.0, (2, 3)), Scaled(0.0, (2, 3)), 0.0),
        (Scaled(float("nan"), (2, 3)), Scaled(1.0, (2, 3)), float("inf")),
        (Scaled(1.0, (2, 3)), Scaled(float("inf"), (2, 3)), float("inf")),
        (Scaled(float("nan"), (2, 3)), Scaled(float("nan"), (2, 3)), 0.0),
        (Scaled(-float("inf"), (2, 3)), Scaled(-float("inf"), (2, 3)), 0.0),
        (Scaled(1.0, (2, 3)), Scaled(1.0, (2, 3), (2, 3)), float("inf")),
        (Scaled(1.0, (2, 4)), Scaled(1.0, (2, 3)), float("inf")),
    ],
)
def test_drift_is_relative_to_the_outputs(new: nn.Module, old: nn.Module, relative: float) -> None:
    assert drift(new, old).relative == relative


def test_rows_of_logits_are_counted() -> None:
    found = drift(Logits(0, 1, 2, 1), Logits(0, 1, 1, 1))

    assert (found.rows, found.agreeing) == (4, 3)
    assert found.text.endswith("the largest of each row stayed in 3 of 4")


@pytest.mark.parametrize("shape", [(2, 1), (2, 3, 4), (5,)])
def test_other_outputs_are_no_logits(shape: tuple[int, ...]) -> None:
    found = drift(Scaled(1.0, shape), Scaled(1.0, shape))

    assert found.rows == 0
    assert "largest" not in found.text

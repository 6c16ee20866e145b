"""Layouts that layers take by convention."""

import pytest
from torch import nn

from modswap.nn import ACmix
from modswap.ops.trace.layer_layouts import convention, layer_class


class Permuting(nn.LayerNorm):
    """A layer norm that may permute first."""


@pytest.mark.parametrize(
    ("module", "rank", "layout"),
    [
        (nn.Conv2d(2, 2, 1), 4, "NCHW"),
        (nn.Conv1d(2, 2, 1), 3, "NCL"),
        (nn.Conv2d(2, 2, 1), 5, None),
        (nn.BatchNorm2d(2), 4, "NCHW"),
        (nn.Linear(2, 2), 4, "NHWC"),
        (nn.LayerNorm(2), 3, "NLC"),
        (Permuting(2), 4, None),
        (nn.MultiheadAttention(2, 1, batch_first=True), 3, "NLC"),
        (nn.MultiheadAttention(2, 1), 3, "LNC"),
        (nn.ReLU(), 4, None),
        (ACmix(8, 8, head=2), 4, None),
    ],
)
def test_layout_follows_from_the_class(module: nn.Module, rank: int, layout: str | None) -> None:
    assert convention(module, rank) == layout


def test_class_of_a_layer_is_its_own() -> None:
    assert layer_class(nn.ReLU()) is nn.ReLU

"""Batch norms folded into the linear maps before them."""

import pytest
import torch
from torch import nn

from modswap.nn.inherit.folding import folded, folds_of
from modswap.nn.inherit.respelling import tensors_of
from tests.old_modules import randomised

LAYERS = [
    (nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), (2, 4, 5, 5)),
    (nn.Conv2d(4, 4, 1, groups=4), nn.BatchNorm2d(4, affine=False), (2, 4, 5, 5)),
    (nn.Conv1d(4, 6, 1), nn.BatchNorm1d(6), (2, 4, 5)),
    (nn.Linear(4, 6), nn.BatchNorm1d(6), (2, 4)),
]


@pytest.mark.parametrize("index", range(len(LAYERS)))
@torch.no_grad()
def test_folded_layer_computes_the_same(index: int) -> None:
    linear, norm, shape = LAYERS[index]
    model = randomised(nn.Sequential(nn.Sequential(linear, norm), nn.ReLU())).double()
    x = torch.randn(shape, dtype=torch.float64)
    wanted = model[0](x)

    (fold,) = folds = folds_of(model)
    found = folded(tensors_of(model), folds)

    assert (fold.linear, fold.norm) == ("0.0", "0.1")
    plain = {"weight": found["0.0.weight"], "bias": found[fold.bias]}
    assert torch.allclose(torch.func.functional_call(linear, plain, (x,)), wanted)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(8)),
    ],
)
def test_other_norms_are_not_folded(model: nn.Module) -> None:
    assert folds_of(model) == ()

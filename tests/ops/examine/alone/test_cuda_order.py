"""Operations that add in any order on a GPU, found without one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap import nn as catalogue
from modswap.core.seen.site import Call
from modswap.live_values import describe
from modswap.ops.examine.alone.cuda_order import unordered
from modswap.ops.examine.alone.inputs import CallInputs
from tests.ops.examine.swapped_blocks import DIM, Wrap, examine, here, recipe

X, ROW, SOLID = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4), torch.randn(1, 2, 6, 6, 6)
INDEX = torch.zeros(2, 6, 4, dtype=torch.long)
GRID = torch.zeros(2, 4, 4, 2)
SOME = torch.tensor([0, 0, 1, 2, 3, 4])


class Runs(nn.Module):
    """Runs a function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.function(x)
        return result


def inputs(*leaves: torch.Tensor) -> CallInputs:
    numbers = tuple(range(len(leaves)))
    call = Call(tuple(map(describe, leaves)), (), describe(leaves[0]))
    return CallInputs(call, leaves, tuple(map(str, numbers)), numbers)


def resized(mode: str, **named: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: F.interpolate(x, scale_factor=0.5, mode=mode, **named)


def padded(mode: str, sides: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: F.pad(x, (1,) * sides, mode=mode)


@pytest.mark.parametrize(
    ("name", "function", "x"),
    [
        ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 3), X),
        ("", lambda x: F.adaptive_avg_pool2d(x, 1), X),  # a mean
        ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 1), X),
        ("adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 2), SOLID),
        ("adaptive_max_pool3d", lambda x: F.adaptive_max_pool3d(x, 2), SOLID),
        ("avg_pool3d", lambda x: F.avg_pool3d(x, 2), SOLID),
        ("max_pool3d", lambda x: F.max_pool3d(x, 2), SOLID),
        ("", lambda x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2), X),
        (
            "fractional_max_pool2d",
            lambda x: F.fractional_max_pool2d(x, 2, output_size=3),
            X,
        ),
        (
            "max_unpool2d",
            lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), [2, 2]),
            X,
        ),
        ("interpolate, linear", resized("linear"), ROW),
        ("interpolate, bilinear", resized("bilinear"), X),
        ("interpolate, bilinear", resized("bilinear", antialias=True), X),
        ("interpolate, bicubic", resized("bicubic"), X),
        ("interpolate, trilinear", resized("trilinear"), SOLID),
        ("", resized("nearest"), X),
        ("reflection_pad1d", padded("reflect", 2), ROW),
        ("reflection_pad2d", padded("reflect", 4), X),
        ("replication_pad2d", padded("replicate", 4), X),
        ("", padded("constant", 4), X),
        ("", padded("circular", 4), X),
        ("grid_sample", lambda x: F.grid_sample(x, GRID, align_corners=False), X),
        ("cumsum", lambda x: x.cumsum(1), ROW),
        ("", lambda x: x + INDEX.cumsum(1), ROW),
        ("gather", lambda x: x.gather(1, INDEX), ROW),
        ("index_select", lambda x: x.index_select(1, SOME), ROW),
        ("", lambda x: x[:, [0, 0, 1]], ROW),
        ("index_add", lambda x: torch.zeros_like(x).index_add_(1, SOME, x), ROW),
        ("scatter_add", lambda x: torch.zeros_like(x).scatter_add(1, INDEX, x), ROW),
        ("", lambda x: x + torch.zeros_like(INDEX).scatter_add(1, INDEX, INDEX), ROW),
        ("scatter_reduce", lambda x: x.scatter_reduce(1, INDEX, x, "mean"), ROW),
        ("median", lambda x: x.median(1).values, ROW),
        ("", lambda x: x * x.median(), ROW),
        ("histc", lambda x: x * x.detach().histc(4).sum(), ROW),
        (
            "bincount with weights",
            lambda x: x * torch.bincount(INDEX.flatten(), x.detach().flatten()).sum(),
            ROW,
        ),
        ("", lambda x: x * torch.bincount(INDEX.flatten()).sum(), ROW),
        ("nll_loss", lambda x: F.cross_entropy(x.flatten(0, 1), SOME.repeat(2) * 0), ROW),
        ("", lambda x: F.scaled_dot_product_attention(x, x, x).topk(2).values, ROW),
    ],
)
def test_operation_is_named_as_torch_documents_it(
    name: str, function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
) -> None:
    assert [one.name for one in unordered(Runs(function), inputs(x))] == ([name] if name else [])


class Hidden(torch.autograd.Function):
    """A function whose backward pass alone resizes."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        index = torch.zeros_like(grad, dtype=torch.long)
        return torch.zeros_like(grad).scatter_add(1, index, grad)


def test_backward_function_of_ones_own_is_run() -> None:
    module = Runs(Hidden.apply)

    assert [one.name for one in unordered(module, inputs(X))] == ["scatter_add"]


class Pools(nn.Module):
    """Adds the mean of tokens that were pooled to two."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.scale = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_avg_pool2d(x[:, None], (2, DIM))[:, 0]
        scaled: torch.Tensor = self.scale(x)
        return scaled + pooled.mean(1, keepdim=True)


@pytest.mark.parametrize("old", [nn.Linear(DIM, DIM), Pools()])
def test_swap_names_what_the_original_does_not_do(old: nn.Module) -> None:
    found = examine(Wrap(old), recipe(here(Pools)), "determinism")

    (site,) = [one for one in found if one.path]
    assert site.status == "passed"
    if isinstance(old, Pools):
        assert not site.what
    else:
        assert site.what.startswith("not deterministic on CUDA: adaptive_avg_pool2d, which")
        assert site.data == {"cuda": ["adaptive_avg_pool2d"]}


MAP, TOKENS = torch.randn(2, 16, 14, 14), torch.randn(2, 9, 16)
ADAPTIVE = {"kv_downsample_mode": "ada_avgpool", "kv_per_win": 2, "n_win": 2}


def routed(**named: Any) -> nn.Module:
    layer = catalogue.BiLevelRoutingAttention(16, num_heads=4, layout="NCHW", **named)
    return nn.Sequential(nn.Conv2d(16, 16, 1), layer)  # so that its input takes gradients


LAYERS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "SEBlock": (lambda: catalogue.SEBlock(16), MAP),
    "ECA": (lambda: catalogue.ECA(16), MAP),
    "CBAM": (lambda: catalogue.CBAM(16), MAP),
    "CoordinateAttention": (lambda: catalogue.CoordinateAttention(16, 16), MAP),
    "SCSE": (lambda: catalogue.SCSE(16), MAP),
    "ConvGate": (lambda: catalogue.ConvGate(16), MAP),
    "ACmix": (lambda: catalogue.ACmix(16, 16), MAP),
    "SelfAttention": (lambda: catalogue.SelfAttention(16, 4), TOKENS),
    "MultiHeadSelfAttention": (lambda: catalogue.MultiHeadSelfAttention(16, 4), TOKENS),
    "WindowAttention": (lambda: catalogue.WindowAttention(16, 4, 7), MAP.permute(0, 2, 3, 1)),
    "BiLevelRoutingAttention": (routed, MAP),
    "means": (lambda: routed(**ADAPTIVE), MAP),
    "maxima": (lambda: routed(**ADAPTIVE | {"kv_downsample_mode": "ada_maxpool"}), MAP),
}


def test_every_layer_of_the_catalogue_is_tried() -> None:
    assert catalogue.CATALOGUE.keys() <= LAYERS.keys()


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_the_catalogue_add_in_a_fixed_order(name: str) -> None:
    make, x = LAYERS[name]

    assert unordered(make(), inputs(x)) == ()

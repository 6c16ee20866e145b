"""Tests that compare the catalogue's modules with those of other packages."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from modswap.nn import (
    CBAM,
    ECA,
    SCSE,
    CoordinateAttention,
    MultiHeadSelfAttention,
    SEBlock,
    SelfAttention,
    WindowAttention,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]  # the libraries' own

CHANNELS = [8, 24, 64]
sizes = pytest.mark.parametrize("size", [(1, 1), (7, 5), (14, 14)])


def map_of(channels: int, size: tuple[int, int], batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, channels, *size, dtype=torch.float64)


def agree(
    ours: nn.Module, theirs: nn.Module, x: torch.Tensor, names: Mapping[str, str] | None = None
) -> None:
    """Compare outputs and gradients, with their weights and random buffers in both.

    Args:
        ours: A module of the catalogue.
        theirs: Another package's.
        x: What both are given.
        names: Ours by theirs, where they differ.
    """
    for module in (ours, theirs):
        module.double().train()
    for name, value in theirs.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + (0.5 if name.endswith("var") else -0.5))
    names = names or {name: name for name in theirs.state_dict()}
    told = {
        mine: theirs.state_dict()[other].reshape(ours.state_dict()[mine].shape)
        for other, mine in names.items()
    }
    ours.load_state_dict(told)
    inputs = [x.clone().requires_grad_() for _ in range(2)]

    outputs = [module(given) for module, given in zip((ours, theirs), inputs, strict=True)]
    weight = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weight).sum().backward()

    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-9, atol=1e-10)
    gradients = dict(theirs.named_parameters())
    for other, mine in names.items():
        if other in gradients:
            expected = gradients[other].grad
            assert expected is not None
            found = ours.get_parameter(mine).grad
            torch.testing.assert_close(
                found, expected.reshape(told[mine].shape), rtol=1e-8, atol=1e-9
            )
    state = theirs.eval().state_dict()
    torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=1e-10, atol=1e-10)
    for other, mine in names.items():
        torch.testing.assert_close(ours.state_dict()[mine].flatten(), state[other].flatten())


@pytest.mark.ci
@sizes
@pytest.mark.parametrize("channels", CHANNELS)
def test_se_block_is_timms(channels: int, size: tuple[int, int]) -> None:
    layers = pytest.importorskip("timm.layers")
    theirs = layers.SEModule(channels, rd_channels=channels // 4, bias=False)

    ours = SEBlock(channels, reduction=4)

    agree(
        ours,
        theirs,
        map_of(channels, size),
        {"fc1.weight": "fc.0.weight", "fc2.weight": "fc.2.weight"},
    )


@pytest.mark.ci
@sizes
@pytest.mark.parametrize("channels", [*CHANNELS, 2048])
def test_eca_is_timms(channels: int, size: tuple[int, int]) -> None:
    layers = pytest.importorskip("timm.layers")
    theirs = layers.EcaModule(channels)

    agree(ECA(channels, theirs.conv.kernel_size[0]), theirs, map_of(channels, size))


@pytest.mark.ci
@sizes
@pytest.mark.parametrize("channels", CHANNELS)
def test_cbam_is_timms(channels: int, size: tuple[int, int]) -> None:
    cbam = pytest.importorskip("timm.layers.cbam")
    theirs = cbam.CbamModule(channels, rd_channels=channels // 4, mlp_bias=True)
    theirs.spatial.conv.bn.momentum = 0.01  # as the paper's authors have it
    # maxima before means, as they have it too
    theirs.spatial.conv.register_forward_pre_hook(lambda _, args: (args[0].flip(1),))
    mlp = {f"channel.fc{at}.{part}": f"ChannelGate.mlp.{to}.{part}"
           for at, to in ((1, 1), (2, 3)) for part in ("weight", "bias")}  # fmt: skip
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    spatial = {f"spatial.conv.bn.{part}": f"SpatialGate.spatial.bn.{part}" for part in norm}
    spatial["spatial.conv.conv.weight"] = "SpatialGate.spatial.conv.weight"

    agree(CBAM(channels, 4), theirs, map_of(channels, size), mlp | spatial)


@pytest.mark.ci
@sizes
@pytest.mark.parametrize("channels", CHANNELS)
def test_coordinate_attention_is_timms(channels: int, size: tuple[int, int]) -> None:
    layers = pytest.importorskip("timm.layers.coord_attn")
    theirs = layers.CoordAttn(channels, rd_channels=max(8, channels // 4), bias=True)

    agree(CoordinateAttention(channels, 4), theirs, map_of(channels, size))


@pytest.mark.ci
@sizes
@pytest.mark.parametrize("channels", CHANNELS)
def test_scse_is_that_of_segmentation_models(channels: int, size: tuple[int, int]) -> None:
    modules = pytest.importorskip("segmentation_models_pytorch.base.modules")
    theirs = modules.SCSEModule(channels, reduction=4)

    agree(SCSE(channels, 4), theirs, map_of(channels, size))


@pytest.mark.ci
@pytest.mark.parametrize(("dim", "heads", "bias"), [(8, 1, True), (24, 3, False), (64, 8, True)])
@pytest.mark.parametrize("length", [1, 17, 196])
def test_multi_head_self_attention_is_timms(
    dim: int, heads: int, length: int, *, bias: bool
) -> None:
    layers = pytest.importorskip("timm.layers")
    theirs = layers.Attention(dim, heads, qkv_bias=bias)
    x = torch.randn(2, length, dim, dtype=torch.float64)

    agree(MultiHeadSelfAttention(dim, heads, qkv_bias=bias), theirs, x)


@pytest.mark.ci
@pytest.mark.parametrize("size", [(7, 7), (14, 21), (28, 14)])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_window_attention_is_timms(size: tuple[int, int], shift: int) -> None:
    swin = pytest.importorskip("timm.models.swin_transformer")
    block = swin.SwinTransformerBlock(
        24, size, num_heads=3, window_size=7, shift_size=shift, always_partition=True
    )
    block.norm1 = block.mlp = nn.Identity()

    class Theirs(nn.Module):
        """The attention of the block, without its other layers."""

        def __init__(self) -> None:
            super().__init__()
            self.attn = block.attn
            self.mask = block.attn_mask

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            block.attn_mask = None if self.mask is None else self.mask.double()
            attended: torch.Tensor = block._attn(x)
            return attended

    theirs = Theirs()
    names = {
        name: name.removeprefix("attn.")
        for name in theirs.state_dict()
        if name != "attn.relative_position_index"
    }
    ours = WindowAttention(24, 3, 7, shift)
    index = ours.relative_position_index

    assert torch.equal(index, theirs.attn.relative_position_index)
    del ours._buffers["relative_position_index"]
    ours.relative_position_index = index
    agree(ours, theirs, torch.randn(2, *size, 24, dtype=torch.float64), names)


@pytest.mark.parametrize(("dim", "heads", "key_dim"), [(8, 1, 8), (24, 3, 8), (10, 4, 7)])
@pytest.mark.parametrize("mask", [False, True])
def test_self_attention_is_that_of_keras(dim: int, heads: int, key_dim: int, *, mask: bool) -> None:
    keras = pytest.importorskip("keras")
    given = keras.Input((11, dim))
    attention = keras.layers.MultiHeadAttention(heads, key_dim, name="att_multi_head_attention")
    gathered = attention(given, given, use_causal_mask=mask)
    added = keras.layers.Add(name="att_add")([given, gathered])
    norm = keras.layers.LayerNormalization(name="att_layer_normalization")
    model = keras.Model(given, norm(added))
    ours = SelfAttention(dim, heads, key_dim, prefix="att", mask=mask)

    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(torch.randn(tuple(weight.shape)) / dim**0.5)
    ours.load_state_dict(from_keras(model))
    x = torch.randn(3, 11, dim)

    assert keras.backend.backend() == "torch"
    torch.testing.assert_close(ours(x), model(x), rtol=1e-5, atol=1e-5)
    assert {name for name, _ in ours.named_children()} == {
        layer.name for layer in model.layers if layer.name.startswith("att_")
    }


def from_keras(model: Any) -> dict[str, torch.Tensor]:
    """Return Keras' weights under our names, in our order of axes."""
    state = {}
    for layer in model.layers:
        for weight in layer.weights:
            *_, part, kind = weight.path.split("/")
            value = weight.value.detach()
            ours = "weight" if kind in {"kernel", "gamma"} else "bias"
            name = f"{layer.name}."
            if layer.name.endswith("attention"):
                name += part.removeprefix("attention_") + "."
            if kind == "kernel" and part == "attention_output":
                value = value.flatten(0, 1)  # (heads, key_dim, dim)
            if kind == "kernel":
                value = value.flatten(1).T  # (dim, heads, key_dim)
            state[name + ours] = value if kind == "kernel" else value.flatten()
    return state

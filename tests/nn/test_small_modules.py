"""The small modules of the catalogue against their papers' equations, written out in float64.

Covers: se_block, eca, cbam, scse, conv_gate, coordinate_attention, multi_head_self_attention,
self_attention, window_attention.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.core.errors import ModswapError
from modswap.core.seen.site import Layout
from modswap.core.seen.values import TensorInfo
from modswap.nn import (
    CATALOGUE,
    CBAM,
    ECA,
    SCSE,
    ConvGate,
    CoordinateAttention,
    MultiHeadSelfAttention,
    SEBlock,
    SelfAttention,
    WindowAttention,
)
from modswap.nn.catalogue.row import read_options
from modswap.nn.eca import adaptive_size
from tests.effort import examples
from tests.nn.sites import call, site, tensor

State = dict[str, torch.Tensor]


def pixels(x: torch.Tensor) -> Iterator[tuple[int, int, int]]:
    N, _, H, W = x.shape
    return ((n, i, j) for n in range(N) for i in range(H) for j in range(W))


def by_se_block(x: torch.Tensor, w: State) -> torch.Tensor:
    mean = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    weight = torch.relu(mean @ w["fc.0.weight"].T) @ w["fc.2.weight"].T
    return torch.einsum("nchw,nc->nchw", x, 1 / (1 + torch.exp(-weight)))


def by_eca(x: torch.Tensor, w: State) -> torch.Tensor:
    kernel = w["conv.weight"].flatten()
    reach = len(kernel) // 2
    y = torch.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            near = [(k, c + k - reach) for k in range(len(kernel))]
            near = [(k, at) for k, at in near if 0 <= at < x.shape[1]]
            weight = sum(kernel[k] * x[n, at].mean() for k, at in near)
            y[n, c] = x[n, c] / (1 + torch.exp(torch.as_tensor(-weight)))
    return y


def normed(x: torch.Tensor, w: State, name: str) -> torch.Tensor:
    """Return a map normalised by the running statistics: (N, C, H, W)."""
    mean, var, scale, shift = (
        w[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5) ** 0.5 * scale + shift


def by_cbam(x: torch.Tensor, w: State) -> torch.Tensor:
    gate = "ChannelGate.mlp."

    def mlp(pooled: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(pooled @ w[gate + "1.weight"].T + w[gate + "1.bias"])
        return hidden @ w[gate + "3.weight"].T + w[gate + "3.bias"]

    largest = x.flatten(2).max(2).values
    x = x * torch.sigmoid(mlp(x.flatten(2).mean(2)) + mlp(largest))[:, :, None, None]
    if "SpatialGate.spatial.conv.weight" not in w:
        return x
    both = torch.stack([x.max(1).values, x.mean(1)], 1)
    kernel = w["SpatialGate.spatial.conv.weight"][0]  # (2, 7, 7)
    padded = F.pad(both, (3, 3, 3, 3))
    logits = torch.empty_like(x[:, :1])
    for n, i, j in pixels(x):
        logits[n, 0, i, j] = (padded[n, :, i : i + 7, j : j + 7] * kernel).sum()
    return x * torch.sigmoid(normed(logits, w, "SpatialGate.spatial.bn"))


def by_coordinate_attention(x: torch.Tensor, w: State) -> torch.Tensor:
    def hidden(pooled: torch.Tensor) -> torch.Tensor:
        """Return the hidden layer of one axis: (N, C, S) -> (N, hidden, S)."""
        y = torch.einsum("oc,ncs->nos", w["conv1.weight"][:, :, 0, 0], pooled)
        y = normed((y + w["conv1.bias"][:, None])[..., None], w, "bn1")[..., 0]
        return y * (y + 3).clamp(0, 6) / 6

    def weight(pooled: torch.Tensor, name: str) -> torch.Tensor:
        y = torch.einsum("co,nos->ncs", w[name + ".weight"][:, :, 0, 0], hidden(pooled))
        return torch.sigmoid(y + w[name + ".bias"][:, None])

    return x * weight(x.mean(3), "conv_h")[..., None] * weight(x.mean(2), "conv_w")[:, :, None]


def by_scse(x: torch.Tensor, w: State) -> torch.Tensor:
    hidden = torch.relu(x.mean((2, 3)) @ w["cSE.1.weight"].flatten(1).T + w["cSE.1.bias"])
    channel = torch.sigmoid(hidden @ w["cSE.3.weight"].flatten(1).T + w["cSE.3.bias"])
    pixel = torch.einsum("c,nchw->nhw", w["sSE.0.weight"].flatten(), x) + w["sSE.0.bias"]
    return torch.einsum("nchw,nc->nchw", x, channel) + x * torch.sigmoid(pixel)[:, None]


def by_conv_gate(x: torch.Tensor, w: State, stride: int = 1) -> torch.Tensor:
    kernel = w["conv.weight"]
    side = kernel.shape[2]
    padded = F.pad(x, (side // 2,) * 4)
    H, W = (-(-size // stride) for size in x.shape[2:])
    y = torch.empty(len(x), len(kernel), H, W, dtype=x.dtype)
    for n, i, j in pixels(y):
        top, left = i * stride, j * stride
        patch = padded[n, :, top : top + side, left : left + side]
        y[n, :, i, j] = (kernel * patch).sum((1, 2, 3)) + w["conv.bias"]
    return normed(y, w, "bn").clamp(min=0)


def heads_attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: Any = 0) -> torch.Tensor:
    """Return one head's answer: (L, d), (L, d), (L, d) -> (L, d)."""
    return torch.softmax(q @ k.T * q.shape[1] ** -0.5 + bias, 1) @ v


def by_attention(x: torch.Tensor, w: State, heads: int, bias: Any = None) -> torch.Tensor:
    """Return attended tokens (N, L, C), with timm's and Swin's names; bias: (N, heads, L, L)."""
    qkv = x @ w["qkv.weight"].T + w.get("qkv.bias", torch.zeros(()))
    q, k, v = qkv.chunk(3, 2)
    bias = torch.zeros(len(x), heads) if bias is None else bias
    size = x.shape[2] // heads
    parts = [slice(head * size, head * size + size) for head in range(heads)]
    y = torch.stack([
        torch.cat([
            heads_attend(q[n, :, part], k[n, :, part], v[n, :, part], bias[n, h])
            for h, part in enumerate(parts)
        ], 1)
        for n in range(len(x))
    ])  # fmt: skip
    return y @ w["proj.weight"].T + w["proj.bias"]


def by_self_attention(x: torch.Tensor, w: State, heads: int, *, mask: bool) -> torch.Tensor:
    name = "att_multi_head_attention."
    q, k, v = (
        x @ w[f"{name}{part}.weight"].T + w[f"{name}{part}.bias"]
        for part in ("query", "key", "value")
    )
    unseen = torch.full((x.shape[1],) * 2, -torch.inf).triu(1) if mask else 0
    parts = torch.arange(q.shape[2]).chunk(heads)
    gathered = torch.stack([
        torch.cat([heads_attend(q[n][:, p], k[n][:, p], v[n][:, p], unseen) for p in parts], 1)
        for n in range(len(x))
    ])  # fmt: skip
    y = x + gathered @ w[name + "output.weight"].T + w[name + "output.bias"]
    mean, var = y.mean(2, keepdim=True), y.var(2, correction=0, keepdim=True)
    norm = "att_layer_normalization."
    return (y - mean) / (var + 1e-3) ** 0.5 * w[norm + "weight"] + w[norm + "bias"]


def by_window_attention(
    x: torch.Tensor, w: State, heads: int, side: int, shift: int
) -> torch.Tensor:
    """Follow every pixel of an NHWC map to its window, and every pair of pixels to its bias."""
    N, H, W, C = x.shape
    rows, columns = -(-H // side) * side, -(-W // side) * side
    full = torch.zeros(N, rows, columns, C, dtype=x.dtype)
    full[:, :H, :W] = x
    y = torch.zeros_like(full)
    table = w["relative_position_bias_table"]
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            # positions in the rolled map; then those in the map itself, which wraps around
            rolled = [(top + i, left + j) for i in range(side) for j in range(side)]
            places = [((i + shift) % rows, (j + shift) % columns) for i, j in rolled]
            wraps = [(i + shift >= rows, j + shift >= columns) for i, j in rolled]
            bias = torch.zeros(heads, side**2, side**2, dtype=x.dtype)
            for a, (ai, aj) in enumerate(rolled):
                for b, (bi, bj) in enumerate(rolled):
                    at = (ai - bi + side - 1) * (2 * side - 1) + aj - bj + side - 1
                    bias[:, a, b] = table[at] - (100.0 if wraps[a] != wraps[b] else 0.0)
            i, j = (torch.tensor(t) for t in zip(*places, strict=True))
            y[:, i, j] = by_attention(full[:, i, j], w, heads, bias.expand(N, -1, -1, -1))
    return y[:, :H, :W]


def agrees(
    module: nn.Module, reference: Callable[..., torch.Tensor], x: torch.Tensor, **known: Any
) -> None:
    """Compare output and gradients in evaluation, with weights drawn at random."""
    module = module.double().eval()
    state = {
        name: torch.rand_like(value) + (0.5 if name.endswith("var") else -0.5)
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }
    module.load_state_dict(state, strict=False)
    weights = {name: value.clone().requires_grad_() for name, value in state.items()}
    inputs = [x.clone().requires_grad_() for _ in range(2)]

    found, expected = module(inputs[0]), reference(inputs[1], weights, **known)
    direction = torch.randn_like(expected)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()

    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-8, atol=1e-10)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-8, atol=1e-10)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


sides = st.tuples(st.integers(1, 9), st.integers(1, 9))
swept = hypothesis.settings(max_examples=examples(25), deadline=None)


@swept
@hypothesis.given(
    sides, st.integers(1, 3), st.sampled_from([1, 5, 12]), st.sampled_from([1, 4, 16])
)
def test_gates_follow_their_papers(
    size: tuple[int, int], batch: int, channels: int, reduction: int
) -> None:
    x = drawn(batch, channels, *size)

    agrees(SEBlock(channels, reduction), by_se_block, x)
    agrees(ECA(channels, 2 * (reduction // 4) + 1), by_eca, x)
    agrees(CBAM(channels, reduction), by_cbam, x)
    agrees(CBAM(channels, reduction, no_spatial=True), by_cbam, x)
    agrees(CoordinateAttention(channels, reduction), by_coordinate_attention, x)
    agrees(SCSE(channels, reduction), by_scse, x)


@swept
@hypothesis.given(
    sides, st.sampled_from([(3, 5), (4, 4)]), st.sampled_from([1, 3, 5]), st.integers(1, 3)
)
def test_conv_gate_follows_its_definition(
    size: tuple[int, int], channels: tuple[int, int], side: int, stride: int
) -> None:
    gate = ConvGate(*channels, kernel_size=side, stride=stride)

    agrees(gate, by_conv_gate, drawn(2, channels[0], *size), stride=stride)


heads_and_sizes = st.sampled_from([(1, 1), (1, 6), (2, 3), (4, 2)])


@swept
@hypothesis.given(st.integers(1, 20), heads_and_sizes, st.booleans())
def test_multi_head_self_attention_follows_its_paper(
    length: int, heads: tuple[int, int], bias: bool
) -> None:
    dim = heads[0] * heads[1]
    module = MultiHeadSelfAttention(dim, heads[0], qkv_bias=bias)

    agrees(module, by_attention, drawn(2, length, dim), heads=heads[0])


@swept
@hypothesis.given(st.integers(1, 20), heads_and_sizes, st.integers(1, 9), st.booleans())
def test_self_attention_follows_its_definition(
    length: int, heads: tuple[int, int], dim: int, mask: bool
) -> None:
    module = SelfAttention(dim, heads[0], heads[1], mask=mask)

    agrees(module, by_self_attention, drawn(2, length, dim), heads=heads[0], mask=mask)


@hypothesis.settings(max_examples=examples(15), deadline=None)
@hypothesis.given(sides, heads_and_sizes, st.sampled_from([(1, 0), (2, 1), (3, 0), (4, 3)]))
def test_window_attention_follows_its_paper(
    size: tuple[int, int], heads: tuple[int, int], window: tuple[int, int]
) -> None:
    dim = heads[0] * heads[1]
    module = WindowAttention(dim, heads[0], *window)
    known = {"heads": heads[0], "side": window[0], "shift": window[1]}

    agrees(module, by_window_attention, drawn(2, *size, dim), **known)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [SelfAttention, WindowAttention])
def test_maps_in_either_layout_give_the_same(
    kind: Callable[..., nn.Module], order: torch.memory_format
) -> None:
    last = kind(8, 2, layout="NHWC").eval()
    first = kind(8, 2, layout="NCHW").eval()
    first.load_state_dict(last.state_dict())
    x = torch.randn(2, 8, 5, 9).contiguous(memory_format=order)

    y = first(x)

    torch.testing.assert_close(y, last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    assert y.is_contiguous(memory_format=order)


@pytest.mark.parametrize("kind", [MultiHeadSelfAttention, WindowAttention])
def test_dropping_happens_in_training_alone(kind: Callable[..., nn.Module]) -> None:
    module = kind(8, 2, attn_drop=0.5, proj_drop=0.5)
    x = torch.randn(2, 9, 8) if kind is MultiHeadSelfAttention else torch.randn(2, 7, 7, 8)
    torch.manual_seed(0)

    assert not torch.equal(module(x), module(x))
    assert torch.equal(module.eval()(x), module(x))


NAMES = {
    SEBlock(32): "fc.0.weight fc.2.weight",
    ECA(32): "conv.weight",
    CBAM(32): "ChannelGate.mlp.1.weight ChannelGate.mlp.1.bias ChannelGate.mlp.3.weight"
    " ChannelGate.mlp.3.bias SpatialGate.spatial.conv.weight SpatialGate.spatial.bn.weight"
    " SpatialGate.spatial.bn.bias SpatialGate.spatial.bn.running_mean"
    " SpatialGate.spatial.bn.running_var SpatialGate.spatial.bn.num_batches_tracked",
    CoordinateAttention(32): "conv1.weight conv1.bias bn1.weight bn1.bias bn1.running_mean"
    " bn1.running_var bn1.num_batches_tracked conv_h.weight conv_h.bias conv_w.weight conv_w.bias",
    SCSE(32): "cSE.1.weight cSE.1.bias cSE.3.weight cSE.3.bias sSE.0.weight sSE.0.bias",
    MultiHeadSelfAttention(32): "qkv.weight proj.weight proj.bias",
    WindowAttention(32, 4): "relative_position_bias_table relative_position_index"
    " qkv.weight qkv.bias proj.weight proj.bias",
    ConvGate(32): "conv.weight conv.bias bn.weight bn.bias bn.running_mean bn.running_var"
    " bn.num_batches_tracked",
    SelfAttention(32, 4, prefix="att3"): " ".join(
        f"att3_multi_head_attention.{part}.{kind}"
        for part in ("query", "key", "value", "output")
        for kind in ("weight", "bias")
    )
    + " att3_layer_normalization.weight att3_layer_normalization.bias",
}


@pytest.mark.parametrize("module", NAMES, ids=lambda module: type(module).__name__)
def test_weights_have_the_names_of_the_reference_implementation(module: nn.Module) -> None:
    assert list(module.state_dict()) == NAMES[module].split()


REFUSED = [
    (lambda: SEBlock(0), "channel must be at least 1, got 0"),
    (lambda: ECA(8, 4), "k_size must be odd, got 4"),
    (lambda: CBAM(8, 0), "reduction_ratio must be at least 1, got 0"),
    (lambda: ConvGate(8, kernel_size=2), "kernel_size must be odd, got 2"),
    (lambda: ConvGate(8, stride=0), "stride must be at least 1, got 0"),
    (lambda: MultiHeadSelfAttention(8, 3), "dim 8 is not divisible by num_heads 3"),
    (lambda: WindowAttention(8, 3), "dim 8 is not divisible by num_heads 3"),
    (lambda: WindowAttention(8, 2, 4, 4), "shift_size must be from 0 to below window_size 4"),
    (lambda: WindowAttention(8, 2, layout=cast("Any", "NLC")), "got 'NLC'"),
    (lambda: SelfAttention(8, 3), "dim 8 is not divisible by num_heads 3: give key_dim"),
    (lambda: SelfAttention(8, 2, prefix="a.b"), "prefix must be letters, digits and underscores"),
    (lambda: SelfAttention(8, 2, layout=cast("Any", "CHW")), "got 'CHW'"),
    (lambda: SEBlock(8)(torch.ones(1, 4, 2, 2)), r"expected a map \(N, 8, H, W\), got \(1, 4, 2"),
    (lambda: ConvGate(8)(torch.ones(8, 2, 2)), r"expected a map \(N, 8, H, W\), got \(8, 2, 2\)"),
    (lambda: MultiHeadSelfAttention(8)(torch.ones(1, 4)), r"expected \(N, L, 8\), got \(1, 4\)"),
    (lambda: WindowAttention(8, 2)(torch.ones(1, 8, 5, 5)), r"expected a map \(N, H, W, 8\), got"),
    (
        lambda: WindowAttention(8, 2, layout="NCHW")(torch.ones(1, 5, 5, 8)),
        r"expected a map \(N, 8, H, W\), got \(1, 5, 5, 8\)",
    ),
    (lambda: SelfAttention(8, 2)(torch.ones(1, 4, 9)), r"expected \(N, L, E\) with E = 8, got"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "message"), REFUSED)
def test_what_cannot_be_is_refused_in_words(action: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        action()


@pytest.mark.parametrize(
    ("channels", "side"), [(1, 1), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (2048, 7)]
)
def test_kernel_of_eca_follows_the_papers_rule(channels: int, side: int) -> None:
    assert adaptive_size(channels) == side


def fitted(name: str, *calls: Any, layout: Layout = "NCHW", **args: Any) -> dict[str, Any]:
    row = CATALOGUE[name]
    place = site(*calls, layout=layout)
    return dict(row.fit(place, read_options(row, args, str), adapt=False).args)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("ECA", {}, {"channel": 512, "k_size": 5}),
        ("ECA", {"k_size": 9}, {"k_size": 9}),
        ("MultiHeadSelfAttention", {}, {"dim": 512, "num_heads": 16}),
        ("WindowAttention", {}, {"window_size": 7, "layout": "NCHW"}),
        ("WindowAttention", {"window_size": 4}, {"window_size": 4}),
        ("WindowAttention", {"shift_size": 9}, {"window_size": 10}),
        ("SelfAttention", {}, {"num_heads": 16, "key_dim": 32, "layout": "NCHW"}),
        ("SelfAttention", {"key_dim": 64}, {"num_heads": 8, "key_dim": 64}),
        ("SelfAttention", {"key_dim": 5, "num_heads": 3}, {"num_heads": 3, "key_dim": 5}),
        ("ConvGate", {}, {"in_channels": 512, "out_channels": 512, "stride": 1}),
    ],
)
def test_what_is_left_out_is_observed(
    name: str, args: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = fitted(name, tensor(1, 512, 14, 14), **args)

    assert found | expected == found


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("SelfAttention", {"dim": 8, "num_heads": 3}, "num_heads 3 does not divide dim 8"),
        ("SelfAttention", {"prefix": "a b"}, "prefix is 'a b', expected letters, digits"),
        ("WindowAttention", {"window_size": 4, "shift_size": 4}, "shift_size is 4, window_size 4"),
        ("WindowAttention", {"attn_drop": 1.5}, "attn_drop: attn_drop is 1.5, expected a number"),
        ("ECA", {"k_size": 4}, "k_size: k_size is 4, expected an odd number, or auto"),
        ("ConvGate", {"kernel_size": 4}, "kernel_size is 4, expected an odd number"),
        ("ConvGate", {"stride": 2}, "stage.attn: the site turns"),
        ("SEBlock", {"channel": 9}, "stage.attn: channel is 9, the site is given 8 channels"),
        ("MultiHeadSelfAttention", {"num_heads": 3}, "num_heads 3 does not divide 8 channels"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(ModswapError) as refusal:
        fitted(name, tensor(1, 8, 6, 9), **args)

    assert message in str(refusal.value)


@pytest.mark.parametrize("length", [1, 7, 17, 197])
@pytest.mark.parametrize("name", ["SelfAttention", "MultiHeadSelfAttention"])
def test_tokens_that_are_no_map_will_do_for_attention_of_all_to_all(name: str, length: int) -> None:
    assert fitted(name, tensor(2, length, 64), layout="NLC")["num_heads"] == 2


def test_causal_attention_of_a_map_says_in_which_order() -> None:
    row = CATALOGUE["SelfAttention"]
    options = read_options(row, {"mask": True}, str)

    blueprint = row.fit(site(tensor(1, 8, 6, 9), layout="NCHW"), options, adapt=False)

    reasons = {choice.name: choice.reason for choice in blueprint.choices}
    assert reasons["layout"] == "a pixel sees those before it, row by row"


@pytest.mark.parametrize("name", ["ConvGate", "ACmix"])
def test_sites_that_give_no_one_number_of_channels_keep_theirs(name: str) -> None:
    calls = [call(tensor(1, 8, 6, 6), output=tensor(1, size, 6, 6)) for size in (4, 6)]

    with pytest.raises(ModswapError, match=r"the site turns .*1x8x6x6|the site turns"):
        fitted(name, *calls)


def test_a_gate_can_change_channels_and_size() -> None:
    args = fitted("ConvGate", call(tensor(2, 8, 7, 9), output=tensor(2, 5, 4, 5)))

    assert args == {
        "in_channels": 8, "out_channels": 5, "kernel_size": 3, "stride": 2,
    }  # fmt: skip
    assert ConvGate(**args)(torch.randn(TensorInfo((2, 8, 7, 9)).shape)).shape == (2, 5, 4, 5)

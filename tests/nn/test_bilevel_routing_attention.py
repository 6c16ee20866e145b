"""Bi-level routing attention against its equations, and its refusals."""

import io
import pickle
from dataclasses import asdict
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from modswap.nn import BiLevelRoutingAttention, Routing
from tests.effort import examples
from tests.nn.routing_reference import Setting, routed_attention

MODES = ["identity", "ada_avgpool", "ada_maxpool", "avgpool", "maxpool"]
PUBLISHED = {
    "num_heads": 8,
    "n_win": 7,
    "qk_dim": None,
    "qk_scale": None,
    "kv_per_win": 4,
    "kv_downsample_ratio": 4,
    "kv_downsample_kernel": None,
    "kv_downsample_mode": "identity",
    "topk": 4,
    "param_attention": "qkvo",
    "param_routing": False,
    "diff_routing": False,
    "soft_routing": False,
    "side_dwconv": 3,
    "auto_pad": True,
}


def compare(setting: Setting, height: int, width: int, layout: str, seed: int) -> None:
    torch.manual_seed(seed)
    layer = BiLevelRoutingAttention(**asdict(setting), layout=layout).double()  # type: ignore[arg-type] # values of several types
    x = torch.randn(2, height, width, setting.dim, dtype=torch.float64)
    direction = torch.randn_like(x)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    given_map = ours if layout == "NHWC" else ours.permute(0, 3, 1, 2)
    y, routing = layer(given_map, return_routing=True)
    y = y if layout == "NHWC" else y.permute(0, 2, 3, 1)
    weights = {name: t.detach().clone().requires_grad_() for name, t in layer.state_dict().items()}
    expected, indices, shares = routed_attention(theirs, weights, setting)
    (y * direction).sum().backward()
    (expected * direction).sum().backward()

    assert torch.equal(routing.indices, indices)
    torch.testing.assert_close(routing.weights, shares, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-10)
    for name, parameter in layer.named_parameters():
        wanted = weights[name].grad
        found = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        wanted = wanted if wanted is not None else torch.zeros_like(parameter)
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"soft_routing": True},
        {"soft_routing": True, "diff_routing": True},
        {"soft_routing": True, "diff_routing": True, "param_routing": True},
    ],
    ids=["hard", "soft", "differentiable", "with-parameters"],
)
def test_layer_computes_its_equations_in_every_mode(mode: str, flags: dict[str, Any]) -> None:
    compare(Setting(kv_downsample_mode=mode, **flags), 8, 4, "NCHW", seed=0)


@pytest.mark.parametrize(
    "setting",
    [
        Setting(side_dwconv=0),
        Setting(side_dwconv=5),
        Setting(qk_dim=4),
        Setting(qk_dim=12, num_heads=4),
        Setting(qk_scale=0.7),
        Setting(param_attention="qkv"),
        Setting(topk=4),
        Setting(topk=1),
        Setting(n_win=1, topk=1),
        Setting(kv_downsample_mode="avgpool", kv_downsample_ratio=1),
        Setting(kv_downsample_mode="ada_avgpool", kv_per_win=3),
    ],
    ids=str,
)
def test_layer_computes_its_equations_for_every_option(setting: Setting) -> None:
    compare(setting, 4, 8, "NHWC", seed=1)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_padding_takes_part_and_is_cut_off(layout: str) -> None:
    compare(Setting(n_win=3, topk=9, auto_pad=True), 5, 8, layout, seed=2)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Setting, int, int]:
    heads = draw(st.sampled_from([1, 2, 3]))
    n_win = draw(st.integers(1, 4))
    soft = draw(st.booleans())
    diff = soft and draw(st.booleans())
    height, width = draw(st.integers(n_win, 3 * n_win)), draw(st.integers(n_win, 3 * n_win))
    mode = draw(st.sampled_from(MODES))
    window = min(ceil(height / n_win), ceil(width / n_win))
    # a window of padding alone ties with others like it, and ties have no order
    assume(ceil(height / n_win) * (n_win - 1) < height or n_win == 1)
    assume(ceil(width / n_win) * (n_win - 1) < width or n_win == 1)
    setting = Setting(
        dim=heads * draw(st.integers(1, 3)),
        num_heads=heads,
        n_win=n_win,
        qk_dim=draw(st.one_of(st.none(), st.just(2 * heads))),
        kv_per_win=draw(st.integers(1, 3)),
        kv_downsample_ratio=draw(st.integers(1, window)),
        kv_downsample_mode=mode,
        topk=draw(st.integers(1, n_win**2)),
        param_attention=draw(st.sampled_from(["qkvo", "qkv"])),
        soft_routing=soft,
        diff_routing=diff,
        param_routing=diff and draw(st.booleans()),
        side_dwconv=draw(st.sampled_from([0, 3, 5])),
        auto_pad=True,
    )
    return setting, height, width


@settings(max_examples=examples(25), deadline=None)
@given(cases(), st.sampled_from(["NHWC", "NCHW"]), st.integers(0, 2**16))
def test_layer_computes_its_equations_for_all_options_that_fit_together(
    case: tuple[Setting, int, int], layout: str, seed: int
) -> None:
    setting, height, width = case

    compare(setting, height, width, layout, seed)


@pytest.mark.parametrize("side_dwconv", [0, 3])
def test_all_windows_selected_is_dense_attention(side_dwconv: int) -> None:
    layer = BiLevelRoutingAttention(8, 2, n_win=2, topk=4, side_dwconv=side_dwconv).double()
    x = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    q, k, v = layer.qkv.qkv(x.flatten(1, 2)).chunk(3, dim=-1)
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (q, k, v))

    dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=8**-0.5)
    maps = dense.transpose(1, 2).reshape(2, 4, 6, 8)
    if layer.lepe is not None:
        values = v.transpose(1, 2).reshape(2, 4, 6, 8).permute(0, 3, 1, 2)
        maps = maps + layer.lepe(values).permute(0, 2, 3, 1)

    torch.testing.assert_close(layer(x), layer.wo(maps), rtol=1e-10, atol=1e-12)


def test_published_arguments_go_by_position_and_by_name() -> None:
    by_name = BiLevelRoutingAttention(dim=16, **PUBLISHED)  # type: ignore[arg-type] # values of several types
    by_position = BiLevelRoutingAttention(16, *PUBLISHED.values())  # type: ignore[arg-type] # values of several types

    assert repr(by_name) == repr(by_position)


def test_state_dict_has_the_published_names_in_the_published_order() -> None:
    layer = BiLevelRoutingAttention(4, 2, soft_routing=True, diff_routing=True, param_routing=True)

    assert list(layer.state_dict()) == [
        *("lepe.weight", "lepe.bias", "router.emb.weight", "router.emb.bias"),
        *("qkv.qkv.weight", "qkv.qkv.bias", "wo.weight", "wo.bias"),
    ]


def test_published_keyword_gives_weights_indices_and_attention() -> None:
    layer = BiLevelRoutingAttention(4, 2, n_win=2, topk=3)
    x = torch.randn(2, 4, 6, 4)

    y, weights, indices, attention = layer(x, ret_attn_mask=True)

    assert torch.equal(y, layer(x))
    assert indices.shape == weights.shape == (2, 4, 3)
    assert attention.shape == (2 * 4, 2, 2 * 3, 3 * 6)
    torch.testing.assert_close(attention.sum(-1), torch.ones(8, 2, 6))


def test_routing_comes_with_indices_first_and_the_best_window_first() -> None:
    layer = BiLevelRoutingAttention(4, 2, n_win=3, topk=5)

    _, routing = layer(torch.randn(1, 6, 6, 4), return_routing=True)

    assert isinstance(routing, Routing)
    assert routing.indices.shape == (1, 9, 5)
    assert torch.equal(routing.weights, routing.weights.sort(descending=True).values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"topk": 5, "n_win": 2}, r"topk must be from 1 to n_win² = 4 \(n_win 2\), got 5"),
        ({"topk": 0}, r"topk must be from 1 to n_win² = 49 \(n_win 7\), got 0"),
        ({"diff_routing": True}, "diff_routing=True needs soft_routing=True"),
        (
            {"param_routing": True, "soft_routing": True},
            "param_routing=True needs diff_routing=True, got diff_routing=False",
        ),
        ({"kv_downsample_mode": "fracpool"}, "'avgpool', 'maxpool', got 'fracpool'"),
        ({"kv_downsample_mode": "conv"}, "kv_downsample_mode must be one of 'identity'"),
        ({"kv_downsample_mode": "ada_avgpol"}, "got 'ada_avgpol'"),
        (
            {"kv_downsample_mode": "maxpool", "kv_downsample_ratio": None},
            "kv_downsample_ratio must be at least 1 in kv_downsample_mode 'maxpool', got None",
        ),
        (
            {"kv_downsample_mode": "ada_maxpool", "kv_per_win": 0},
            "kv_per_win must be at least 1 in kv_downsample_mode 'ada_maxpool', got 0",
        ),
        ({"param_attention": "qk"}, "param_attention must be one of 'qkvo', 'qkv', got 'qk'"),
        ({"layout": "NLC"}, "layout must be one of 'NHWC', 'NCHW', got 'NLC'"),
        ({"num_heads": 3}, "dim 16 is not divisible by num_heads 3"),
        ({"qk_dim": 12}, "qk_dim 12 is not divisible by num_heads 8"),
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"n_win": 0}, "n_win must be at least 1, got 0"),
        ({"side_dwconv": 4}, "side_dwconv must be odd, or 0 for none, got 4"),
        ({"side_dwconv": -1}, "side_dwconv must be odd, or 0 for none, got -1"),
        ({"qk_scale": 0}, "qk_scale must not be 0"),
    ],
)
def test_constructor_refuses_naming_argument_and_both_values(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        BiLevelRoutingAttention(16, **arguments)


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ({}, (16, 14, 14), r"expected a map of 4 axes, \(N, H, W, 16\), got \(16, 14, 14\)"),
        ({}, (1, 16, 14, 14), "axis 3 has 14 channels, dim is 16; axis 1 is: is layout='NCHW'"),
        ({"layout": "NCHW"}, (1, 14, 14, 16), "axis 1 has 14 channels, .* is layout='NHWC'"),
        ({}, (1, 14, 14, 8), "axis 3 has 8 channels, dim is 16$"),
        ({}, (1, 14, 15, 16), "width 15 is not a multiple of n_win 7, and auto_pad is false"),
        ({}, (1, 5, 14, 16), "height 5 is below n_win 7, and auto_pad is false"),
        ({"layout": "NCHW"}, (1, 16, 14, 5), "width 5 is below n_win 7"),
        (
            {"kv_downsample_mode": "avgpool"},
            (1, 14, 28, 16),
            "kv_downsample_ratio 4 is larger than the windows, which are 2x4 pixels",
        ),
    ],
)
def test_forward_refuses_what_does_not_fit(
    arguments: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    layer = BiLevelRoutingAttention(16, **arguments)

    with pytest.raises(ValueError, match=message):
        layer(torch.randn(shape))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("last", [False, True])
def test_output_has_the_memory_format_of_the_input(layout: str, last: bool) -> None:
    layer = BiLevelRoutingAttention(4, 2, n_win=2, layout=layout)  # type: ignore[arg-type] # values of several types
    x = torch.randn(2, 4, 4, 4)
    x = x.to(memory_format=torch.channels_last) if last else x

    y = layer(x)

    nhwc = layout == "NHWC"
    assert (
        y.is_contiguous()
        if nhwc or not last
        else y.is_contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(y, layer(x.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_stay_what_they_are(dtype: torch.dtype) -> None:
    layer = BiLevelRoutingAttention(8, 2, n_win=2, auto_pad=True).to(dtype)

    y = layer(torch.randn(1, 5, 3, 8, dtype=dtype))

    assert y.dtype is dtype
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("mode", MODES)
def test_shapes_come_out_without_data(mode: str) -> None:
    layer = BiLevelRoutingAttention(
        8, 2, n_win=2, kv_downsample_mode=mode, kv_downsample_ratio=2, auto_pad=True, layout="NCHW"
    )

    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = layer(torch.empty(3, 8, 9, 7))
    meta = layer.to("meta")(torch.empty(3, 8, 9, 7, device="meta"))

    assert fake.shape == meta.shape == (3, 8, 9, 7)


def test_empty_batch_gives_an_empty_batch() -> None:
    assert BiLevelRoutingAttention(8, 2)(torch.empty(0, 7, 7, 8)).shape == (0, 7, 7, 8)


def test_layer_without_convolution_pickles() -> None:
    layer = BiLevelRoutingAttention(8, 2, side_dwconv=0)
    x = torch.randn(1, 7, 7, 8)

    again = pickle.loads(pickle.dumps(layer))

    assert torch.equal(again(x), layer(x))


def test_whole_layer_loads_safely_with_its_own_classes_allowed() -> None:
    layer = BiLevelRoutingAttention(8, 2, kv_downsample_mode="ada_avgpool")
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    classes = {type(module) for module in layer.modules()}

    with torch.serialization.safe_globals(list(classes)):
        again = torch.load(file, weights_only=True)  # noqa: TID251 - the layer's own promise

    x = torch.randn(1, 7, 7, 8)
    assert torch.equal(again(x), layer(x))

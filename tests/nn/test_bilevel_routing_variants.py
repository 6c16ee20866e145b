"""The variant of the later class, masked padding, and the layer under compile, export and autocast.

Covers: routed_attention.__init__, routed_attention.arguments, routed_attention.chunks,
routed_attention.picking, routed_attention.plain, routed_attention.routing,
routed_attention.values, routed_attention.whole.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812 - the usual name

from modswap.nn import BiLevelRoutingAttention
from modswap.nn.routed_attention import Operands, plain_attention, routed_attention
from modswap.nn.routed_attention.picking import picking_attention
from modswap.nn.routed_attention.whole import attend_whole
from tests.effort import examples
from tests.nn.routing_published_order import PublishedOrder


def pixels(start: int, size: int, length: int) -> range:
    return range(start, min(start + size, length))


def by_pixel(layer: BiLevelRoutingAttention, x: torch.Tensor, *, mask: bool) -> torch.Tensor:
    """Return the expected output, pixel by pixel, for one (H, W, C) map in float64."""
    later = layer.variant == "refactored"
    height, width, C = x.shape
    n, heads = layer.n_win, layer.num_heads
    h, w = (height // n, width // n) if later else (-(-height // n), -(-width // n))
    rows, columns = (-(-height // h), -(-width // w)) if later else (n, n)
    linear = layer.qkv_linear if later else layer.qkv.qkv
    bias: torch.Tensor = linear.bias  # type: ignore[assignment] # it has one
    qkv = x @ linear.weight.flatten(1).T + bias  # (H, W, 3 C)
    filler = torch.zeros(3 * C, dtype=x.dtype) if later else bias  # the value of a filled-up pixel

    def window(number: int, *, real: bool) -> torch.Tensor:
        row, column = divmod(number, columns)
        found = [
            qkv[i, j] if i < height and j < width else filler
            for i in range(row * h, row * h + h)
            for j in range(column * w, column * w + w)
            if not real or (i < height and j < width)
        ]
        return torch.stack(found) if found else qkv.new_zeros(0, 3 * C)

    real_only = mask or later
    means = [window(p, real=real_only) for p in range(rows * columns)]
    q_mean = torch.stack([m[:, :C].mean(0) if len(m) else m.new_zeros(C) for m in means])
    k_mean = torch.stack([m[:, C : 2 * C].mean(0) if len(m) else m.new_zeros(C) for m in means])
    affinity = q_mean @ k_mean.T
    empty = [p for p, m in enumerate(means) if not len(m)]
    affinity[:, empty] = float("-inf")
    chosen = affinity.topk(layer.topk).indices
    out = torch.zeros(rows * h, columns * w, C, dtype=x.dtype)
    for p in range(rows * columns):
        row, column = divmod(p, columns)
        picked = torch.cat([window(int(c), real=mask) for c in chosen[p]])
        own = window(p, real=False)
        if not len(picked):
            continue
        parts = [
            torch.softmax(layer.scale * q @ k.T, -1) @ v
            for q, k, v in zip(
                *(
                    t.chunk(heads, -1)
                    for t in (own[:, :C], picked[:, C : 2 * C], picked[:, 2 * C :])
                ),
                strict=True,
            )
        ]
        place = (slice(row * h, row * h + h), slice(column * w, column * w + w))
        out[place] = torch.cat(parts, -1).reshape(h, w, C)
    out = out[:height, :width]
    if layer.lepe is not None:
        v = qkv[..., 2 * C :].permute(2, 0, 1)[None]
        if not real_only:
            full = filler[2 * C :, None, None].expand(C, rows * h, columns * w)[None].clone()
            full[..., :height, :width] = v
            v = full
        local = F.conv2d(v, layer.lepe.weight, layer.lepe.bias, padding="same", groups=C)
        out = out + local[0, :, :height, :width].permute(1, 2, 0)
    last: Any = layer.output_linear if later else layer.wo
    result: torch.Tensor = out @ last.weight.flatten(1).T + last.bias
    return result


@settings(deadline=None, max_examples=examples(25))
@given(
    size=st.tuples(st.integers(3, 11), st.integers(3, 11)),
    n_win=st.integers(1, 3),
    share=st.floats(0, 1),
    variant=st.sampled_from(["original", "refactored"]),
    mask=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_layer_computes_what_its_words_say_pixel_by_pixel(
    size: tuple[int, int], n_win: int, share: float, variant: Any, mask: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    topk = 1 + round(share * (n_win**2 - 1))
    layer = BiLevelRoutingAttention(
        4, 2, n_win, topk=topk, auto_pad=True, variant=variant, mask_padding=mask
    ).double()
    x = torch.randn(2, *size, 4, dtype=torch.float64)

    expected = torch.stack([by_pixel(layer, one, mask=mask) for one in x])

    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-11)


def test_variant_has_the_names_of_the_later_class() -> None:
    layer = BiLevelRoutingAttention(8, 2, 2, topk=1, variant="refactored")

    assert list(layer.state_dict()) == [
        "lepe.weight", "lepe.bias", "qkv_linear.weight", "qkv_linear.bias",
        "output_linear.weight", "output_linear.bias",
    ]  # fmt: skip
    assert layer.qkv_linear.weight.shape == (24, 8, 1, 1)


def test_variant_gives_its_attention_by_head_first() -> None:
    layer = BiLevelRoutingAttention(8, 2, 2, topk=3, layout="NCHW", variant="refactored")

    y, shares = layer(torch.randn(2, 8, 4, 6), ret_attn_mask=True)

    assert y.shape == (2, 8, 4, 6)
    assert shares.shape == (2, 2, 4, 6, 18)  # (N, heads, windows, pixels, topk x pixels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"qk_dim": 4}, "'refactored' has qk_dim 8 only, got 4"),
        ({"param_attention": "qkv"}, "has param_attention 'qkvo' only, got 'qkv'"),
        ({"soft_routing": True}, "has soft_routing False only, got True"),
    ],
)
def test_variant_refuses_what_the_later_class_lacks(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BiLevelRoutingAttention(8, 2, 2, topk=1, variant="refactored", **options)


def test_variant_refuses_maps_smaller_than_its_windows_in_words() -> None:
    layer = BiLevelRoutingAttention(8, 2, 7, variant="refactored")

    with pytest.raises(ValueError, match="height 5 is below n_win 7"):
        layer(torch.randn(1, 5, 5, 8))


@pytest.mark.parametrize("mode", ["ada_avgpool", "ada_maxpool", "avgpool", "maxpool"])
def test_masked_padding_changes_nothing_that_is_pooled_from_pixels(mode: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"n_win": 3, "topk": 2, "kv_downsample_mode": mode, "auto_pad": True}
    options |= {"kv_downsample_ratio": 2, "kv_per_win": 2}
    masked = BiLevelRoutingAttention(8, 2, mask_padding=True, **options).double()
    x = torch.randn(1, 10, 11, 8, dtype=torch.float64, requires_grad=True)

    with torch.no_grad():
        masked.qkv.qkv.bias.zero_()
    y = masked(x)
    y.sum().backward()

    assert torch.isfinite(y).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def operands(seed: int, *, weighted: bool, masked: bool, wide: bool, topk: int) -> Operands:
    """Return operands of two heads."""
    torch.manual_seed(seed)
    N, P, L, K, c = 2, 5, 3, 4, 4
    C = 2 * c if wide else c
    q = torch.randn(N, P, L, c, dtype=torch.float64, requires_grad=True)
    kv = torch.randn(N, P, K, c + C, dtype=torch.float64, requires_grad=True)
    indices = torch.rand(N, P, P).topk(topk).indices
    weights = torch.rand(N, P, topk, dtype=torch.float64, requires_grad=True) if weighted else None
    mask = torch.rand(N, P, K) > 0.6 if masked else None
    return Operands(q, kv, indices, weights, mask, 2, 0.5)


@pytest.mark.parametrize("topk", [1, 3, 5])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_every_way_gives_what_the_plain_way_gives(
    weighted: bool, masked: bool, wide: bool, topk: int, chunk: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr("modswap.nn.routed_attention.chunks.CHUNK_BYTES", chunk)
    given = operands(7, weighted=weighted, masked=masked, wide=wide, topk=topk)
    q, kv, _, weights, *_ = given
    wanted = [t for t in (q, kv, weights) if t is not None]
    ways = [plain_attention, picking_attention, routed_attention]
    results = [way(given) for way in ways]
    if weights is None:
        results.append(attend_whole(given))
    direction = torch.randn_like(results[0])

    plain, *others = [
        (y, *torch.autograd.grad((y * direction).sum(), wanted, retain_graph=True)) for y in results
    ]

    for other in others:
        for one, expected in zip(other, plain, strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_those_of_finite_differences_once_and_twice(weighted: bool) -> None:
    q, kv, indices, weights, *_ = operands(3, weighted=weighted, masked=False, wide=False, topk=2)
    q, kv = (t[:1, :3, :2].detach().requires_grad_() for t in (q, kv))
    indices = indices[:1, :3].remainder(3)
    weights = None if weights is None else weights[:1, :3].detach().requires_grad_()

    def run(*given: torch.Tensor) -> torch.Tensor:
        weights = given[2] if weighted else None
        return picking_attention(Operands(given[0], given[1], indices, weights, None, 2, 0.5))

    inputs = tuple(t for t in (q, kv, weights) if t is not None)
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.fixture
def layer() -> BiLevelRoutingAttention:
    torch.manual_seed(0)
    return BiLevelRoutingAttention(16, 2, 4, topk=3, auto_pad=True)


@pytest.mark.parametrize("imitated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_routes_to_the_same_windows(
    layer: BiLevelRoutingAttention,
    dtype: torch.dtype,
    imitated: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "modswap.nn.kernels.half_precision.IMITATED", {dtype} if imitated else set()
    )
    x = torch.randn(4, 16, 16, 16)
    expected, routing = layer(x, return_routing=True)
    with torch.autocast("cpu", dtype=dtype):
        mixed, mixed_routing = layer(x, return_routing=True)
    layer.to(dtype)

    halved, half_routing = layer(x.to(dtype), return_routing=True)

    assert torch.equal(mixed_routing.indices, routing.indices)
    # the weights themselves are rounded here
    same = half_routing.indices.sort().values == routing.indices.sort().values
    assert same.float().mean() > 0.95
    assert mixed.dtype is halved.dtype is dtype
    torch.testing.assert_close(mixed.float(), expected, rtol=0.05, atol=0.05)


def test_half_precision_trains(layer: BiLevelRoutingAttention) -> None:
    soft = BiLevelRoutingAttention(
        16, 2, 2, topk=2, soft_routing=True, diff_routing=True, param_routing=True
    )
    for module in (layer, soft):
        module.bfloat16()
        module(torch.randn(1, 8, 8, 16, dtype=torch.bfloat16)).sum().backward()

        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_compiled_layer_is_one_graph_with_the_same_numbers(layer: BiLevelRoutingAttention) -> None:
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 12, 12, 16)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()

    compiled(ours).square().sum().backward()
    layer(theirs).square().sum().backward()

    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["original", "refactored"])
def test_exported_program_holds_operators_of_torch_alone(variant: Any) -> None:
    layer = BiLevelRoutingAttention(16, 2, 4, topk=3, variant=variant).eval()
    x = torch.randn(2, 12, 12, 16)

    program = torch.export.export(layer, (x,))

    assert not any("modswap" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-4, atol=1e-5)


def test_fake_tensors_go_forward_and_backward(layer: BiLevelRoutingAttention) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x = mode.from_tensor(torch.randn(2, 10, 12, 16)).requires_grad_()
        y = layer(x)
        y.sum().backward()

    assert y.shape == (2, 10, 12, 16)
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_functional_call_and_deterministic_algorithms(layer: BiLevelRoutingAttention) -> None:
    x = torch.randn(2, 8, 8, 16)
    weights = {name: t.clone().requires_grad_() for name, t in layer.named_parameters()}
    torch.use_deterministic_algorithms(True)
    try:
        y = functional_call(layer, weights, (x,))
        gradients = torch.autograd.grad(y.sum(), list(weights.values()))
    finally:
        torch.use_deterministic_algorithms(False)

    assert torch.equal(y, layer(x))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_memory_kept_for_backward_does_not_grow_with_topk() -> None:
    def kept(topk: int) -> int:
        layer, sizes = BiLevelRoutingAttention(32, 2, 8, topk=topk), []

        def pack(t: torch.Tensor) -> torch.Tensor:
            sizes.append(t.numel() * t.element_size())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            layer(torch.randn(1, 64, 64, 32, requires_grad=True))
        return sum(sizes)

    assert kept(32) < 1.1 * kept(2)


def test_wrapped_projection_still_routes_in_half_precision(layer: BiLevelRoutingAttention) -> None:
    class Wrapped(nn.Linear):
        pass

    wrapped = Wrapped(16, 48)
    wrapped.load_state_dict(layer.qkv.qkv.state_dict())
    layer.qkv.qkv = wrapped
    layer.bfloat16()

    assert layer(torch.randn(1, 8, 8, 16, dtype=torch.bfloat16)).isfinite().all()


def test_published_order_of_operations_gives_the_same_in_single_precision() -> None:
    options: dict[str, Any] = {"num_heads": 2, "n_win": 4, "topk": 3}
    ours = BiLevelRoutingAttention(16, **options)
    plain = PublishedOrder(16, **options)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 16, 12, 16)

    torch.testing.assert_close(ours(x), plain(x), rtol=1e-5, atol=1e-6)

"""Linear maps that rows hold, fitted to second moments and written into their layers.

Covers: __init__, adapted, mixed, moments, projected, separable.
"""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from modswap.core.decided.blueprint import Adaptation
from modswap.nn import ACmix, BiLevelRoutingAttention, MultiHeadSelfAttention, SEBlock
from modswap.nn.adapters import SiteAdapter
from modswap.nn.inherit.convolution import Convolution
from modswap.nn.linear_forms import form_of
from modswap.nn.linear_forms.form import LinearForm, Solution, solve
from modswap.nn.linear_forms.moments import Moments, unfolded
from modswap.nn.linear_forms.separable import Separable

CHANNELS = 4


def bra(**options: object) -> BiLevelRoutingAttention:
    torch.manual_seed(0)
    made = BiLevelRoutingAttention(CHANNELS, num_heads=2, n_win=2, topk=1, layout="NCHW", **options)  # type: ignore[arg-type] # options of any type
    return made.eval()


def maps(count: int = 64, channels: int = CHANNELS) -> torch.Tensor:
    return torch.randn(count, channels, 6, 6, generator=torch.Generator().manual_seed(1)) + 0.5


def solved(form: LinearForm, x: torch.Tensor, y: torch.Tensor) -> Solution:
    moments = Moments(x.shape[1], y.shape[1], form.taps, form.centre)
    for some in range(0, len(x), 16):
        moments.add(x[some : some + 16], y[some : some + 16], form.seen)
    return solve(form, moments.fitting(biased=form.biased, ridge=1e-9))


def separable() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 1),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS),
        nn.Conv2d(CHANNELS, CHANNELS, 1),
    )


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"variant": "refactored", "layout": "NCHW"}])
def test_bi_level_routing_holds_a_depthwise_convolution_between_projections(
    options: dict[str, str],
) -> None:
    options = {key: value for key, value in options.items() if key != "layout"}
    module, x = bra(**options), maps()
    y = separable()(x)
    form = form_of(module, damp=1e4)
    assert form is not None
    with torch.enable_grad():
        found = solved(form, x, y)
    assert found.residual < 1e-4
    form.put(found.parts, found.bias)
    assert float((module(x) - y).square().mean() / y.var()) < 1e-3


@torch.no_grad()
def test_damping_weakens_attention_alone() -> None:
    module, x = bra(), maps()
    y = separable()(x)
    form = form_of(module)
    assert form is not None
    with torch.enable_grad():
        found = solved(form, x, y)
    shares = []
    for damp in (1.0, 10.0):
        form.damp = damp
        form.put(found.parts, found.bias)
        with_map = module(x)
        for tensor in form.mechanism():
            tensor.zero_()
        shares.append(float(module(x).sub(found.bias.float().view(1, -1, 1, 1)).std()))
        assert float((with_map - y).square().mean() / y.var()) < 2
    assert shares[1] == pytest.approx(shares[0] / 10, rel=1e-3)


@torch.no_grad()
def test_a_group_of_acmix_holds_few_maps() -> None:
    x = maps()
    torch.manual_seed(3)
    module = ACmix(CHANNELS, CHANNELS, kernel_att=3, head=2).eval()
    held = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
    form = form_of(module)
    assert form is not None
    for old, most in ((held, 1e-6), (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), 0.2)):
        y = old(x)
        with torch.enable_grad():
            found = solved(form, x, y)
        form.put(found.parts, found.bias)
        error = float((module(x) - y).square().mean() / y.var(unbiased=False))
        assert error == pytest.approx(found.residual, rel=0.3, abs=1e-5)
        assert error < most


@torch.no_grad()
def test_a_strided_map_is_fitted_at_its_own_places() -> None:
    x = maps()
    torch.manual_seed(3)
    module = ACmix(CHANNELS, 2 * CHANNELS, kernel_att=3, head=4, stride=2).eval()
    old = nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, padding=1, stride=2, groups=CHANNELS)
    y = old(x)
    form = form_of(module)
    assert form is not None
    with torch.enable_grad():
        found = solved(form, x, y)
    form.put(found.parts, found.bias)
    error = float((module(x) - y).square().mean() / y.var(unbiased=False))
    assert error == pytest.approx(found.residual, rel=0.3, abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("stride", "outputs"),
    [((1, 1), CHANNELS + 3), ((2, 1), CHANNELS), ((4, 4), CHANNELS - 1)],  # 4 does not divide 6
)
def test_a_map_goes_through_the_projection_and_pooling_of_an_adapter(
    stride: tuple[int, int], outputs: int
) -> None:
    x, adaptation = maps(), Adaptation(CHANNELS, outputs, stride)
    adapter = SiteAdapter(bra(), layout="NCHW", wants="NCHW", adaptation=adaptation).eval()
    old = nn.Sequential(separable(), nn.AvgPool2d(stride, ceil_mode=True))
    old.append(nn.Conv2d(CHANNELS, outputs, 1))
    y = old(x)
    form = form_of(adapter, damp=1e4)
    assert form is not None
    with torch.enable_grad():
        found = solved(form, x, y)
    form.put(found.parts, found.bias)
    spread = y - y.mean((0, 2, 3), keepdim=True)
    error = float((adapter(x) - y).square().sum() / spread.square().sum())
    assert error == pytest.approx(found.residual, rel=0.3, abs=1e-5)
    assert error < 0.02


def test_adapters_that_make_another_map_leave_no_form() -> None:
    wider, pooled = Adaptation(CHANNELS, CHANNELS + 1), Adaptation(CHANNELS, CHANNELS, (2, 2))
    mixed = SiteAdapter(
        ACmix(CHANNELS, CHANNELS), layout="NCHW", wants="NCHW", adaptation=wider
    )  # its outputs are in groups
    tokens = MultiHeadSelfAttention(CHANNELS, 2)
    rows = SiteAdapter(tokens, layout="NLC", wants="NLC", adaptation=pooled)
    assert form_of(mixed) is None
    assert form_of(rows) is None
    assert form_of(SiteAdapter(tokens, layout="NLC", wants="NLC", adaptation=wider)) is not None
    assert form_of(SiteAdapter(bra(), layout="NHWC", wants="NCHW")) is not None


def conv(**options: object) -> Callable[[], nn.Conv2d]:
    def make() -> nn.Conv2d:
        torch.manual_seed(4)
        return nn.Conv2d(CHANNELS, CHANNELS, **options)  # type: ignore[arg-type] # of any type

    return make


def dense(layer: nn.Conv2d) -> Convolution:
    weight = layer.weight.detach().double()
    if layer.groups > 1:
        weight = torch.diag_embed(weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
    return Convolution(weight, None, layer)


@torch.no_grad()
@pytest.mark.parametrize(
    ("make", "fits"),
    [
        (conv(kernel_size=3, padding=1, groups=CHANNELS), True),
        (conv(kernel_size=1, groups=CHANNELS), True),
        (conv(kernel_size=3, padding=1), False),
        (conv(kernel_size=3, padding=1, stride=2, groups=CHANNELS), False),
        (conv(kernel_size=5, padding=2, groups=CHANNELS), False),
    ],
)
def test_a_depthwise_convolution_is_inherited(make: Callable[[], nn.Conv2d], fits: bool) -> None:
    module, layer, x = bra(), make(), maps(4)
    form = Separable(module, damp=1e5)
    parts = form.inherited(dense(layer))
    assert (parts is not None) is fits
    if parts is not None:
        form.put(parts, torch.zeros(CHANNELS))
        y = layer(x) - (0 if layer.bias is None else layer.bias.view(1, -1, 1, 1))
        assert torch.allclose(module(x), y, atol=1e-3)


def test_rows_without_a_map_have_no_form() -> None:
    assert form_of(SEBlock(CHANNELS)) is None
    assert form_of(bra(side_dwconv=0)) is None
    assert form_of(bra(param_attention="qkv")) is None
    mixed = form_of(ACmix(CHANNELS, CHANNELS))
    assert mixed is not None
    assert mixed.inherited(dense(conv(kernel_size=3, padding=1)())) is None


def test_wide_moments_are_fitted_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modswap.nn.linear_forms.form._WIDE", 1)
    with torch.no_grad():
        x = maps()
        y = separable()(x)
    form = form_of(bra(), damp=1e4)
    assert form is not None
    assert solved(form, x, y).residual < 1e-3


def test_moments_of_single_places_need_no_patches() -> None:
    x, y = torch.randn(8, 3, 5, 1), torch.randn(8, 2, 5, 1)
    moments = Moments(3, 2, 1, 0)
    moments.add(x, y, lambda maps: unfolded(maps, 1, 1))
    rows = torch.cat([x, torch.ones(8, 1, 5, 1)], 1)[..., 0].transpose(1, 2).flatten(0, 1)
    assert torch.allclose(moments.gram, (rows.T @ rows).double())
    assert moments.count == 40

"""New modules that begin with the weights of old ones, of a donor, or of an initialiser.

Covers: trial, attention, inherit, initialise, donate.
"""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.errors import CheckpointError, RecipeError, ShapeError
from modswap.core.kept.outcome import Outcome
from modswap.nn import BiLevelRoutingAttention, MultiHeadSelfAttention, WindowAttention
from modswap.ops.examine.table import examination_names
from modswap.ops.recipes import parse_recipe
from tests import old_modules
from tests.models import gate
from tests.old_modules import randomised

TOKENS, MAP = (2, 16, 16), (2, 16, 4, 4)


def swapped(model: Any, rule: str, shape: tuple[int, ...], match: str = "'0'") -> Outcome:
    """Swap a module of a model in place, without examinations."""
    verify = f"verify: {{skip: [{', '.join(examination_names())}]}}"
    head = f"version: 1\n{verify}\ninputs: [{{shape: {list(shape)}}}]\n"
    text = f"{head}replace: [{{match: {match}, {rule}}}]\n"
    return modswap.replace(model, parse_recipe(text, "swap.yaml", "."))


def distance(model: Any, rule: str, shape: tuple[int, ...], match: str = "'0'") -> float:
    """Return how far a swap moves the outputs, relative to the largest of them."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model(x)
        swapped(model, rule, shape, match)
        return float((model(x) - before).abs().max() / before.abs().max())


ROUTED = "with: BRA, args: {n_win: 2, topk: 4}, start: inherit, grid: [4, 4]"
WINDOW = "with: WindowAttention, args: {window_size: 4}, start: inherit, grid: [4, 4]"
PLAIN = "with: MHSA, start: inherit"
SAME = "with: 'torch.nn:Conv2d', args: {kernel_size: 3, padding: 1}"
ATTENTION: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (nn.Sequential(old_modules.Fused()), TOKENS, "'0'"),
    (nn.Sequential(old_modules.Fused(by_head=True)), TOKENS, "'0'"),
    (nn.Sequential(old_modules.Fused(24, 6)), (2, 16, 24), "'0'"),
    (nn.Sequential(old_modules.Split()), TOKENS, "'0'"),
    (nn.Sequential(old_modules.Paired()), TOKENS, "'0'"),
    (nn.Sequential(MultiHeadSelfAttention(16, 4, qkv_bias=True)), TOKENS, "'0'"),
    (old_modules.TorchAttention(), TOKENS, "attn"),
]


@pytest.mark.parametrize("rule", [ROUTED, WINDOW, PLAIN])
@pytest.mark.parametrize("index", range(len(ATTENTION)))
def test_attention_of_any_spelling_is_inherited(index: int, rule: str) -> None:
    old, shape, match = ATTENTION[index]

    assert distance(randomised(deepcopy(old)), f"{rule}, adapt: true", shape, match) < 1e-5


@pytest.mark.parametrize("rule", [
    "with: BRA, args: {n_win: 2, topk: 4}, start: inherit",
    "with: BRA, args: {n_win: 2, topk: 4, variant: refactored}, start: inherit",
    "with: BRA, args: {n_win: 3, topk: 9}, start: inherit",
    "with: WindowAttention, args: {window_size: 4}, start: inherit",
    "with: MHSA, start: inherit",
])  # fmt: skip
def test_attention_on_maps_is_inherited(rule: str) -> None:
    assert distance(randomised(nn.Sequential(old_modules.OnMaps())), rule, MAP) < 1e-5


@pytest.mark.parametrize("variant", ["original", "refactored"])
def test_norms_narrow_keys_and_a_convolution_of_values_are_inherited(variant: str) -> None:
    model = randomised(nn.Sequential(old_modules.Located()))
    rule = "with: BRA, args: {n_win: 2, topk: 4}, start: inherit"
    if variant == "refactored":
        swapped(model, rule, MAP)
        model = randomised(nn.Sequential(BiLevelRoutingAttention(16, 2, 2, topk=4, layout="NCHW")))
        rule = rule.replace("topk: 4", f"topk: 4, variant: {variant}")

    assert distance(model, rule, MAP) < 1e-5


def test_convolution_of_values_without_a_place_is_noted() -> None:
    model = randomised(nn.Sequential(old_modules.Located()))

    outcome = swapped(model, PLAIN, MAP)

    assert "near.0 is left out: it has no such convolution" in " ".join(outcome.sites[0].notes)


def test_narrow_keys_are_filled_up_with_zeros() -> None:
    model = randomised(nn.Sequential(old_modules.Located()))
    nn.init.zeros_(model[0].near[1].weight)
    nn.init.zeros_(model[0].near[1].bias)

    assert distance(model, PLAIN, MAP) < 1e-5


def test_half_precision_is_inherited() -> None:
    model = randomised(nn.Sequential(old_modules.Split())).half()
    old = deepcopy(model).float()
    swapped(model, PLAIN, TOKENS)
    x = torch.randn(TOKENS)

    assert model[0].qkv.weight.dtype is torch.float16
    assert (model.float()(x) - old(x)).abs().max() < 5e-3


def test_double_precision_is_kept() -> None:
    model = randomised(nn.Sequential(old_modules.Split())).double()
    x = torch.randn(TOKENS, dtype=torch.float64)
    with torch.no_grad():
        before = model(x)
        swapped(model, ROUTED, TOKENS)

        assert (model(x) - before).abs().max() < 1e-12


def test_attention_goes_there_and_back() -> None:
    model = randomised(nn.Sequential(MultiHeadSelfAttention(16, 4, qkv_bias=True)))
    first = {name: value.clone() for name, value in model[0].state_dict().items()}
    swapped(model, ROUTED, TOKENS)
    swapped(model, WINDOW, TOKENS)
    swapped(model, PLAIN, TOKENS)

    last = model[0].state_dict()
    assert all(torch.equal(first[name], last[name]) for name in first)


def test_windows_keep_their_positions() -> None:
    model = randomised(nn.Sequential(WindowAttention(16, 2, 4, 2, layout="NCHW")))
    shape = (1, 16, 8, 8)

    assert distance(model, "with: WindowAttention, start: inherit", shape) == 0
    assert (model[0].window_size, model[0].shift_size) == (4, 2)
    outcome = swapped(model, "with: BRA, args: {n_win: 2, topk: 4}, start: inherit", shape)
    assert "relative_position_bias_table is left out" in " ".join(outcome.sites[0].notes)


def test_routing_to_fewer_windows_is_noted() -> None:
    outcome = swapped(
        randomised(nn.Sequential(old_modules.OnMaps())),
        "with: BRA, args: {n_win: 2, topk: 1}, start: inherit",
        MAP,
    )

    assert "topk 1 of 4 windows" in " ".join(outcome.sites[0].notes)


def test_report_names_what_was_mapped_and_what_began_fresh() -> None:
    rule = "with: SelfAttention, start: inherit"
    outcome = swapped(randomised(nn.Sequential(old_modules.Split())), rule, TOKENS)
    (site,), ledger = outcome.sites, outcome.ledger

    assert ledger is not None
    assert ("att_multi_head_attention.query.weight", "d.weight") in site.mapped
    assert ("att_multi_head_attention.query.bias", "d.bias") in site.mapped
    assert ("att_multi_head_attention.value.bias", "zeros") in site.mapped
    assert site.fresh == ("att_layer_normalization.weight", "att_layer_normalization.bias")
    assert ledger.fresh.names == tuple(f"0.{name}" for name in site.fresh)
    assert set(ledger.mapped.names) == {f"0.{name}" for name, _ in site.mapped}
    assert ledger.mapped.nbytes == 4 * (4 * 16 * 16 + 4 * 16)
    assert (site.start, outcome.ok) == ("inherit", True)


def test_part_of_the_old_module_without_a_place_is_noted() -> None:
    outcome = swapped(randomised(nn.Sequential(old_modules.Normed())), PLAIN, TOKENS)

    assert "of the old module inner_norm is left out" in outcome.sites[0].notes


def test_sizes_that_a_rule_sets_win_over_those_of_the_old_module() -> None:
    model = randomised(nn.Sequential(old_modules.Fused()))

    with pytest.raises(ShapeError, match="num_heads is 4, the old module has 2 heads"):
        swapped(model, "with: MHSA, args: {num_heads: 4}, start: inherit", TOKENS)
    assert isinstance(model[0], old_modules.Fused)


def test_causal_attention_needs_a_mask() -> None:
    model = randomised(nn.Sequential(old_modules.Fused(causal=True)))
    with pytest.raises(ShapeError, match="the old attention is causal"):
        swapped(model, PLAIN, TOKENS)

    swapped(model, "with: SelfAttention, start: inherit", TOKENS)
    assert model[0].att_multi_head_attention.mask


@pytest.mark.parametrize(
    ("old", "rule"),
    [
        (old_modules.ConvSE(), "with: SEBlock"),
        (nn.Sequential(old_modules.ConvSE(hidden=2, bias=True)), "with: SEBlock"),
        (old_modules.OtherCBAM(), "with: CBAM"),
        (old_modules.OtherECA(), "with: ECA, layout: NCHW"),
        (old_modules.OtherCoordinates(), "with: CoordinateAttention"),
        (nn.Conv2d(16, 16, 1), "with: 'torch.nn:Conv2d', args: {kernel_size: 1}"),
        (nn.Conv2d(16, 16, 3, padding=1), SAME),
        (nn.Conv2d(16, 16, 1), "with: ACmix"),
        (nn.Conv2d(16, 16, 1, bias=False), "with: ACmix, args: {head: 8}"),
        (nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)), "with: ACmix"),
        (nn.Conv2d(16, 16, 3, padding=1, groups=16), "with: ACmix"),
        (gate(16), "with: ConvGate"),
    ],
)  # fmt: skip
def test_other_spelling_of_a_module_is_inherited(old: nn.Module, rule: str) -> None:
    model = randomised(nn.Sequential(old))

    assert distance(model, f"{rule}, start: inherit", (2, 16, 9, 9)) < 1e-5


def test_bias_without_a_place_is_noted() -> None:
    model = randomised(nn.Sequential(old_modules.ConvSE(bias=True)))

    rule = "with: SEBlock, args: {bias: false}, start: inherit"
    outcome = swapped(model, rule, (1, 16, 8, 8))

    assert "reduce.bias, expand.bias has no place" in " ".join(outcome.sites[0].notes)
    assert model[0].fc[0].weight.shape == (4, 16)


@pytest.mark.parametrize(("channels", "head"), [(16, 4), (24, 2), (64, 4), (8, 8)])
def test_convolution_path_is_as_near_as_its_rank_allows(channels: int, head: int) -> None:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    model = randomised(nn.Sequential(conv)).double()
    weight = conv.weight.detach()
    groups, rank = channels // head, min(9, 3 * head)
    parts = weight.reshape(groups, head, channels, 9).transpose(2, 3)
    singular = torch.linalg.svdvals(parts.reshape(groups, head * 9, channels))
    best = math.sqrt(float(singular[:, rank:].square().sum() / singular.square().sum()))

    rule = f"with: ACmix, args: {{head: {head}, kernel_att: 1}}, start: inherit"
    outcome = swapped(model, rule, (1, channels, 8, 8))
    impulses = torch.zeros(channels, channels, 5, 5, dtype=torch.float64)
    impulses[range(channels), range(channels), 2, 2] = 1
    with torch.no_grad():
        response = model(impulses)[:, :, 1:4, 1:4].transpose(0, 1).flip(2, 3)  # its kernel
    residual = float((response - weight).norm() / weight.norm())

    assert residual == pytest.approx(best, rel=0.01, abs=1e-6)
    said = " ".join(outcome.sites[0].notes)
    assert (f"but for {best:.3g} of its norm" in said) or (best < 1e-6 and "exactly" in said)


@pytest.mark.parametrize("conv", [
    nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.Conv2d(16, 16, 3, padding=1),
])  # fmt: skip
def test_convolution_of_another_kind_is_refused(conv: nn.Conv2d) -> None:
    kernel = "args: {kernel_conv: 1}, " if conv.dilation == (1, 1) else ""

    with pytest.raises(ShapeError, match="its kernel"):
        swapped(nn.Sequential(conv), f"with: ACmix, {kernel}start: inherit", (1, 16, 9, 9))


@pytest.mark.parametrize(
    ("old", "rule"),
    [
        (nn.Linear(16, 16), PLAIN),
        (nn.Sequential(nn.Linear(16, 48), nn.GELU(), nn.Linear(48, 16)), PLAIN),
        (nn.Identity(), PLAIN),
        (old_modules.Fused(), "with: 'torch.nn:Linear', args: {in_features: 16, out_features: 16}"),
    ],
)
def test_error_lists_both_sides_where_there_is_nothing_to_inherit(
    old: nn.Module, rule: str
) -> None:
    model: Any = nn.Sequential(old, nn.Linear(16, 16))

    with pytest.raises(ShapeError, match="nothing to inherit") as raised:
        swapped(model, rule if "start" in rule else f"{rule}, start: inherit", TOKENS)

    assert raised.value.where == "0"
    assert " has " in raised.value.what
    assert model[0] is old


def test_shared_module_inherits_from_one_module_only() -> None:
    model = nn.Sequential(old_modules.Fused(), old_modules.Fused())

    with pytest.raises(RecipeError, match="cannot inherit from 2 modules"):
        swapped(model, f"{PLAIN}, share: true", TOKENS, "'*'")


def test_weights_that_were_not_read_cannot_be_inherited() -> None:
    model = nn.Sequential(old_modules.Fused()).to("meta")

    with pytest.raises(CheckpointError, match="were not read"):
        swapped(model, PLAIN, TOKENS)


def initialised(init: str, module: str = "ConvGate") -> Any:
    model = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
    swapped(model, f"with: {module}, init: {init}", (1, 16, 8, 8))
    return model[0]


@pytest.mark.parametrize(
    ("init", "holds"),
    [
        ("{weight: trunc_normal, std: 0.02, bias: zeros}", lambda w: 0.015 < w.std() < 0.025),
        ("{weight: constant, val: 3, bias: zeros}", lambda w: bool((w == 3).all())),
        ("{weight: uniform, a: 1, b: 2, bias: zeros}", lambda w: bool(((w >= 1) & (w <= 2)).all())),
        ("{weight: normal, mean: 5, std: 0.1, bias: zeros}", lambda w: abs(w.mean() - 5) < 0.1),
        ("{weight: dirac, bias: zeros}", lambda w: w.sum() == 16),
        ("{weight: orthogonal, gain: 2, bias: zeros}", lambda w: abs(w.norm() - 8) < 1e-3),
        ("{weight: kaiming_normal, mode: fan_out, bias: zeros}", lambda w: w.std() > 0.05),
        ("{weight: xavier_uniform, gain: 0.001, bias: zeros}", lambda w: w.abs().max() < 1e-3),
        ("{weight: ones, bias: zeros}", lambda w: bool((w == 1).all())),
    ],
)  # fmt: skip
def test_initialisers_of_torch_draw_the_weights(init: str, holds: Any) -> None:
    made = initialised(init)

    assert holds(made.conv.weight.detach())
    assert not made.conv.bias.any()
    assert bool((made.bn.weight == 1).all())
    assert torch.equal(initialised(init).conv.weight, made.conv.weight)


@pytest.mark.parametrize("init", ["{weight: eye}", "{weight: sparse, sparsity: 0.1}"])
def test_initialiser_that_does_not_fit_is_refused(init: str) -> None:
    with pytest.raises(ShapeError, match=r"does not fit conv\.weight"):
        initialised(init)


def test_initialiser_without_a_weight_is_refused() -> None:
    with pytest.raises(ShapeError, match="draws nothing"):
        initialised("{bias: zeros}", "ECA")


def test_initialiser_draws_what_is_not_inherited() -> None:
    model = randomised(nn.Sequential(old_modules.OnMaps()))
    rule = "with: BRA, start: inherit, init: {weight: ones}, args: {n_win: 2, topk: 4, "
    rule += "soft_routing: true, diff_routing: true, param_routing: true}"

    outcome = swapped(model, rule, MAP)

    layer: Any = model[0]
    assert isinstance(layer, BiLevelRoutingAttention)
    assert torch.equal(model[0].router.emb.weight, torch.ones(16, 16))
    assert layer.qkv.qkv.weight.std() > 0
    assert outcome.sites[0].fresh == ("router.emb.weight", "router.emb.bias")

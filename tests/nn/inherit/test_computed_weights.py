"""Layers that compute their weights before each pass: weight norm, spectral norm, pruning."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as hooked_spectral_norm
from torch.nn.utils import weight_norm as hooked_weight_norm

import modswap
from modswap.core.errors import ShapeError
from modswap.nn.inherit.computed_weights import computed_weights, make_plain, plain_values
from modswap.ops.examine.table import examination_names
from modswap.ops.recipes import parse_recipe
from tests import old_modules
from tests.old_modules import randomised


def by_hooks(layer: nn.Module) -> nn.Module:
    """Return a layer with weight norm in the way of older files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        hooked_weight_norm(layer)
    return layer


def pruned(layer: nn.Module) -> nn.Module:
    """Return a layer of whose weights half are set to zero."""
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


def both(layer: nn.Module) -> nn.Module:
    """Return a layer whose weight and bias are pruned."""
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.l1_unstructured(layer, "bias", 0.5)
    return layer


WAYS: dict[str, tuple[Callable[[Any], nn.Module], str]] = {
    "weight norm": (parametrizations.weight_norm, "weight (WeightNorm)"),
    "spectral norm": (parametrizations.spectral_norm, "weight (SpectralNorm)"),
    "orthogonal": (parametrizations.orthogonal, "weight (Orthogonal)"),
    "hooked weight norm": (by_hooks, "weight (WeightNorm)"),
    "hooked spectral norm": (hooked_spectral_norm, "weight (SpectralNorm)"),
    "pruned": (pruned, "weight (L1Unstructured)"),
    "both pruned": (both, "weight (L1Unstructured), 0.bias (L1Unstructured)"),
}


def swapped(model: nn.Module, rule: str, shape: tuple[int, ...]) -> Any:
    """Swap the first module of a model in place, without examinations."""
    verify = f"verify: {{skip: [{', '.join(examination_names())}]}}"
    head = f"version: 1\n{verify}\ninputs: [{{shape: {list(shape)}}}]\n"
    recipe = parse_recipe(f"{head}replace: [{{match: '0', {rule}}}]\n", "swap.yaml", ".")
    return modswap.replace(model, recipe)


@torch.no_grad()
def distance(model: nn.Module, rule: str, shape: tuple[int, ...]) -> float:
    """Return how far a swap moves the outputs, relative to the largest of them."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    before = model(x)
    swapped(model, rule, shape)
    return float((model(x) - before).abs().max() / before.abs().max())


@pytest.mark.parametrize("way", WAYS)
def test_convolution_is_inherited_as_it_computes(way: str) -> None:
    wrap, text = WAYS[way]
    block = nn.Sequential(wrap(nn.Conv2d(8, 8, 3, padding=1)), nn.BatchNorm2d(8), nn.ReLU())
    model = nn.Sequential(block, nn.Conv2d(8, 4, 1)).eval()
    layer = block[0]
    x = torch.randn(2, 8, 6, 6)
    before = layer(x).detach()

    done = swapped(model, "with: ConvGate, start: inherit", (2, 8, 6, 6))

    new: Any = model[0]
    torch.testing.assert_close(new.conv(x), before)
    assert any(f"0.{text}" in note for note in done.sites[0].notes)
    assert torch.equal(layer(x), before)  # the old module computes as it did


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, hooked_spectral_norm])
def test_attention_and_gates_with_computed_weights_are_inherited(wrap: Any) -> None:
    attention = randomised(old_modules.Fused())
    wrap(attention.to_three)
    gate = randomised(old_modules.ConvSE())
    first = next(one for one in gate.modules() if isinstance(one, nn.Conv2d))
    wrap(first)
    plain = "with: MHSA, start: inherit"

    gated = "with: SEBlock, start: inherit"
    assert distance(nn.Sequential(attention).eval(), plain, (2, 16, 16)) < 1e-5
    assert distance(nn.Sequential(gate).eval(), gated, (2, 16, 4, 4)) < 1e-5


def test_half_precision_is_computed_in_single() -> None:
    conv = parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1)).half()
    state = conv.state_dict()

    found = plain_values(conv, state)

    assert found["weight"].dtype == torch.float32
    torch.testing.assert_close(found["weight"], conv.weight.float(), atol=1e-3, rtol=1e-2)


class Trained(nn.Module):
    """A parametrization whose code runs on trained weights only."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if not weight.requires_grad:
            raise FileNotFoundError("table.npy")
        return weight


class Tabled(nn.Module):
    """A parametrization with a table that is too large to be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros((1 << 20) + 1, dtype=torch.uint8))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight


@pytest.mark.parametrize(
    ("step", "why"), [(Trained(), "FileNotFoundError: table.npy"), (Tabled(), "its buffer 'table'")]
)
def test_weights_that_cannot_be_computed_are_refused(step: nn.Module, why: str) -> None:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    parametrize.register_parametrization(conv, "weight", step)

    with pytest.raises(ShapeError, match=f"weight cannot be computed: .*{why}") as error:
        swapped(nn.Sequential(conv), "with: ConvGate, start: inherit", (2, 8, 6, 6))

    assert error.value.fix == "leave `start: inherit` out"


def test_a_copy_is_made_plain_and_its_original_is_not() -> None:
    conv: Any = parametrizations.spectral_norm(nn.Conv2d(4, 4, 3))
    for _ in range(5):
        conv(torch.randn(1, 4, 5, 5))
    conv.eval()
    wanted = conv.weight.detach().clone()

    values = plain_values(conv, conv.state_dict())
    torch.testing.assert_close(values["weight"], wanted, atol=0, rtol=0)
    assert set(values) == {"weight", "bias"}
    assert computed_weights(conv) == {"weight": "SpectralNorm"}
    make_plain(conv)
    assert type(conv) is nn.Conv2d
    assert not computed_weights(conv)

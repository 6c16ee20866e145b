"""Attention of tokens as a linear map of its values, fitted in closed form."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

import modswap
from modswap.core.healed.healing import Healing
from modswap.nn import MultiHeadSelfAttention, linear_forms
from modswap.nn.adapters import SiteAdapter
from modswap.nn.linear_forms.attended import Attended


class Other(MultiHeadSelfAttention):
    """The same attention under another class."""


class Around(nn.Module):
    """A model of one module."""

    def __init__(self, mix: nn.Module) -> None:
        super().__init__()
        self.mix = mix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.mix(x)
        return y


def attention(heads: int, *, bias: bool = True) -> MultiHeadSelfAttention:
    torch.manual_seed(1)
    made = MultiHeadSelfAttention(8, heads, bias)
    with torch.no_grad():
        made.qkv.weight[:16] *= 4  # so that it is no plain mean
    return made.eval()


def healed(net: nn.Module, other: nn.Module, x: torch.Tensor) -> Healing:
    wishes: dict[str, Any] = {"stages": ("closed",), "metric": "error"}
    if not x.is_floating_point():
        wishes["inputs"] = [{"shape": (2, *x.shape[1:]), "dtype": "int64"}]
    else:
        wishes["inputs"] = [(2, *x.shape[1:])]
    found = modswap.heal(other, against=net, data=[x], **wishes).healing
    assert found is not None
    return found


@pytest.mark.parametrize(("heads", "bias"), [(1, True), (2, False), (4, True)])
def test_other_values_and_outputs_are_held_exactly(heads: int, bias: bool) -> None:
    new = attention(heads, bias=bias)
    old = Other(8, heads, bias)
    old.load_state_dict(copy.deepcopy(new.state_dict()))
    with torch.no_grad():
        old.qkv.weight[16:] = torch.randn(8, 8)
        old.proj.weight.copy_(torch.randn(8, 8))
        old.proj.bias.copy_(torch.randn(8))
        if bias:
            old.qkv.bias[16:] = torch.randn(8)
    kept = new.qkv.weight[:16].clone()
    found = healed(Around(old), net := Around(new), torch.randn(64, 10, 8))
    assert found.before.error > 0.5
    assert found.after.error < 1e-4
    assert found.sites[0].share is None  # all of it is attention
    assert torch.equal(net.mix.get_parameter("qkv.weight")[:16], kept)  # queries and keys stay


def test_tokens_of_a_map_are_fitted_through_the_adapter() -> None:
    inner = attention(2)
    old = copy.deepcopy(inner)
    with torch.no_grad():
        old.proj.weight.copy_(torch.randn(8, 8))
    places = {"layout": "NCHW", "wants": "NLC"}
    net = Around(nn.Sequential(SiteAdapter(old, **places)))  # type: ignore[arg-type] # layouts
    other = Around(SiteAdapter(inner, **places))  # type: ignore[arg-type] # layouts
    found = healed(net, other, torch.randn(64, 8, 3, 4))
    assert found.after.error < 1e-4


class SmallTransformer(nn.Module):
    """Two residual blocks of attention and a linear map, of tokens with places."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(24, 16)
        self.places = nn.Parameter(torch.randn(1, 12, 16))
        self.first, self.second = Plain(), Plain()
        self.head = nn.Linear(16, 24)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens) + self.places
        x = x + self.first(F.layer_norm(x, (16,)))
        x = x + self.second(F.layer_norm(x, (16,)))
        y: torch.Tensor = self.head(x)
        return y


class Plain(nn.Module):
    """Attention that no row reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.a(x).chunk(3, -1)
        y: torch.Tensor = self.b((3 * q @ k.mT).softmax(-1) @ v)
        return y


def test_values_bring_a_small_transformer_nearer_than_its_last_layers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    net = SmallTransformer().eval()
    tokens = torch.randint(0, 24, (96, 12))
    errors = []
    for rows in (linear_forms.FORMS, {}):
        monkeypatch.setattr(linear_forms, "FORMS", rows)
        other = copy.deepcopy(net)
        for number, name in enumerate(("first", "second")):
            torch.manual_seed(number)
            setattr(other, name, MultiHeadSelfAttention(16, 2).eval())
        found = healed(net, other, tokens)
        errors.append((found.before.error, found.after.error))
    (before, whole), (same, last) = errors
    assert before == same
    assert whole < last < before


def test_too_many_columns_have_no_form() -> None:
    assert Attended(MultiHeadSelfAttention(384, 12)).present
    assert not Attended(MultiHeadSelfAttention(768, 12)).present
    assert Attended(attention(2)).inherited(None) is None  # type: ignore[arg-type] # it is not read

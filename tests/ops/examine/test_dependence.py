"""Inputs that are ignored, causality and masks that are lost.

Covers: alone.tokens.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.io.recipe.reader import parse_recipe
from tests.ops.examine.swapped_blocks import (
    DIM,
    Causal,
    Masked,
    Maskless,
    Wrap,
    examine,
    failed,
    here,
    recipe,
    with_mask,
)


class Scales(Maskless):
    """Scales its output by the mask, which hides no key."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = (x @ x.transpose(1, 2) / 4).softmax(-1)
        out: torch.Tensor = self.proj(weights @ x) * (1 + mask[..., None].float())
        return out


class Cached(nn.Module):
    """Attends to a cache of keys and values: (N, L, E), cache -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, *, cache: dict[str, torch.Tensor]) -> torch.Tensor:
        k, v = torch.cat([cache["k"], x], 1), torch.cat([cache["v"], x], 1)
        out: torch.Tensor = self.proj((x @ k.transpose(1, 2) / 4).softmax(-1) @ v)
        return out


class Cacheless(nn.Module):
    """Takes the cache and ignores it."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: torch.Tensor, *, cache: dict[str, torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.proj(x)
        return out


class Pair(nn.Module):
    """Another multi-head attention with all inputs of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(DIM, 2, batch_first=True)

    def forward(self, query: Any, key: Any, value: Any, **options: Any) -> Any:
        return self.inner(query, key, value, **options)


class PairOfQuery(nn.Module):
    """Takes keys, values and masks, and uses the query alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(DIM, DIM)

    def forward(self, query: Any, key: Any, value: Any, **options: Any) -> Any:
        return self.inner(query), None


def with_cache(block: nn.Module, x: torch.Tensor) -> Any:
    return block(x, cache={"k": x[:, :3] * 2, "v": x[:, :3] * 3})


def attended(block: nn.Module, x: torch.Tensor) -> Any:
    padding = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    mask = torch.zeros(x.shape[1], x.shape[1], device=x.device)
    return block(x, x, x, key_padding_mask=padding.float(), attn_mask=mask, need_weights=False)


def crossed(block: nn.Module, x: torch.Tensor) -> Any:
    return block(x, x * 2, x * 3, need_weights=False)


@pytest.mark.parametrize("unreal", [True, False])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_mask_that_the_new_module_ignores_is_named(dtype: torch.dtype, unreal: bool) -> None:
    model = Wrap(Masked(), with_mask(dtype))

    found = examine(model, recipe(here(Maskless)), unreal=unreal)

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path, fault.data) == ("dependence", "block", {"ignored": ["mask"]})
    assert "ignores 'mask'" in fault.what


def test_a_mask_that_moves_the_output_and_hides_nothing_is_lost() -> None:
    found = examine(Wrap(Masked(), with_mask(torch.bool)), recipe(here(Scales)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("dependence", "block")
    assert fault.what.startswith("the mask is lost: token 1 is masked and changes output")


def test_a_cache_that_the_new_module_ignores_is_named() -> None:
    found = examine(Wrap(Cached(), with_cache), recipe(here(Cacheless)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert fault.data == {"ignored": ["cache[k]", "cache[v]"]}


@pytest.mark.parametrize(
    ("block", "call"),
    [(Masked, with_mask(torch.bool)), (Masked, with_mask(torch.float32)), (Cached, with_cache)],
)
def test_the_same_module_again_is_sound(
    block: Callable[[], nn.Module], call: Callable[..., Any]
) -> None:
    found = examine(Wrap(block(), call), recipe(here(block)))  # type: ignore[arg-type] # they are classes

    assert {one.status for one in found if one.path} == {"passed"}


def test_masks_of_multi_head_attention_are_named_when_ignored() -> None:
    model = Wrap(nn.MultiheadAttention(DIM, 2, batch_first=True), attended)

    found = examine(model, recipe(here(PairOfQuery)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert fault.data == {"ignored": ["key_padding_mask", "attn_mask"]}


@pytest.mark.parametrize("call", [attended, crossed])
def test_multi_head_attention_of_another_make_is_sound(call: Callable[..., Any]) -> None:
    model = Wrap(nn.MultiheadAttention(DIM, 2, batch_first=True), call)

    found = examine(model, recipe(here(Pair)))

    assert {one.status for one in found if one.path} == {"passed"}


def test_keys_and_values_that_are_not_the_query_are_missed() -> None:
    model = Wrap(nn.MultiheadAttention(DIM, 2, batch_first=True), crossed)

    found = examine(model, recipe(here(PairOfQuery)))

    (fault,) = [one for one in found if one.status == "failed"]
    assert fault.data == {"ignored": ["key", "value"]}


def test_causality_that_is_lost_is_reported_with_its_tokens() -> None:
    found = examine(Wrap(Causal()), recipe("SelfAttention", more=", args: {mask: false}"))

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("dependence", "block")
    assert fault.what.startswith("causality is lost: token 5 changes output 4")


def test_causality_that_is_kept_passes() -> None:
    found = examine(Wrap(Causal()), recipe("SelfAttention", more=", args: {mask: true}"))

    assert {one.status for one in found} == {"passed"}


class Words(nn.Module):
    """Blocks over words with a mask of visible words, or of hidden words: (N, L), (N, L)."""

    def __init__(self, attention: nn.Module, *, hides: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, DIM)
        self.attention = attention
        self.block = nn.Linear(DIM, DIM)
        self.hides = hides

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        seen = ~mask.bool() if self.hides else mask.bool()
        out: torch.Tensor = self.block(x + self.attention(x, seen))
        return out


class Padded(nn.Module):
    """Attention to keys that are seen; where there is none, to all: (N, L, E) -> (N, L, E)."""

    def __init__(self, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        shown = seen[:, None, :].expand(-1, x.shape[1], -1)
        shown = shown.tril() if self.causal else shown
        scores = (x @ x.transpose(1, 2) / 4).masked_fill(~shown, -1e30)
        return scores.softmax(-1) @ x


class Pairs(nn.Module):
    """Lets each token see itself and the next: (N, L, E) -> (N, L, E)."""

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        return x + x.roll(-1, 1)


def words(
    attention: nn.Module, with_: str, *, hides: bool = False, more: str = ""
) -> list[Finding]:
    fill = "zeros" if hides else "ones"
    text = (
        "version: 1\ninputs: [{args: [{shape: [2, 6], dtype: int64}, "
        f"{{shape: [2, 6], dtype: bool, fill: {fill}}}]}}]\n"
        f'replace:\n  - {{match: block, with: "{with_}"{more}}}\n'
    )
    torch.manual_seed(0)
    return examine(Words(attention, hides=hides), parse_recipe(text, "swap.yaml", "."))


CAUSAL_ARGS = ", args: {mask: true}"


LINEAR_ARGS = f", args: {{in_features: {DIM}, out_features: {DIM}}}"


@pytest.mark.each_once
@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize(
    ("causal", "more", "what"),
    [
        (False, "", "the mask is lost: token 1 is masked and changes output"),
        (True, "", "causality is lost: token 5 changes output 4"),
        (True, CAUSAL_ARGS, "the mask is lost: token 1 is masked and changes output"),
    ],
)
def test_a_model_as_a_whole_loses_its_mask_or_its_causality(
    causal: bool, more: str, what: str, hides: bool
) -> None:
    found = words(Padded(causal=causal), "SelfAttention", hides=hides, more=more)

    (fault,) = [one for one in found if one.status == "failed"]
    assert (fault.check, fault.path) == ("dependence", "")
    assert fault.what.startswith(what)


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_a_layer_of_each_token_keeps_masks_and_causality(causal: bool, hides: bool) -> None:
    found = words(Padded(causal=causal), "torch.nn:Linear", hides=hides, more=LINEAR_ARGS)

    assert {one.status for one in found} == {"passed"}


def test_tokens_that_mixed_before_are_no_order_and_unused_masks_hide_nothing() -> None:
    found = words(Pairs(), "SelfAttention")

    assert {one.status for one in found} == {"passed"}


class Halves(nn.Module):
    """Joins words with a style: (N, L), (N, L, E / 2) -> (N, L, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, DIM // 2)
        self.block = nn.Linear(DIM, DIM)

    def forward(self, tokens: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(torch.cat([self.embed(tokens), style], -1))
        return out


class FirstHalf(nn.Module):
    """Reads the first half of the channels alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[..., : DIM // 2] * 2, x[..., : DIM // 2]], -1)


def test_an_input_that_the_swapped_model_ignores_is_reported_for_the_whole() -> None:
    text = (
        "version: 1\ninputs: [{args: [{shape: [2, 6], dtype: int64}, {shape: [2, 6, 8]}]}]\n"
        f'replace:\n  - {{match: block, with: "{here(FirstHalf)}"}}\n'
    )

    found = examine(Halves(), parse_recipe(text, "swap.yaml", "."))

    (fault,) = [one for one in found if one.check == "dependence" and one.status == "failed"]
    assert (fault.path, fault.data) == ("", {"ignored": ["style"]})
    assert fault.what.startswith("the swapped model ignores 'style'")


def test_a_site_that_loses_its_mask_is_not_reported_again_for_the_whole() -> None:
    found = examine(Wrap(Masked(), with_mask(torch.bool)), recipe(here(Maskless)))

    whole = [(one.status, one.what) for one in found if (one.check, one.path) == ("dependence", "")]
    assert whole == [("skipped", "a site fails it")]


class Prefix(nn.Module):
    """Attention in which the first token sees itself, and all others see all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
        seen[0, 1:] = False
        return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=seen)


class SamePrefix(Prefix):
    """The same under another name."""


def test_what_the_original_saw_of_later_tokens_is_no_causality_that_is_lost() -> None:
    found = examine(Wrap(Prefix()), recipe(here(SamePrefix)))

    assert failed(found) == []

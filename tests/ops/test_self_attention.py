"""Swaps of an attention whose query, key and value are one tensor."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.recipe import Recipe
from modswap.core.errors import ModswapError
from modswap.io.recipe.reader import parse_recipe
from modswap.nn.adapters import SiteAdapter
from modswap.ops.examine.bench import Bench, examined
from modswap.ops.examine.table import EXAMINATIONS
from modswap.ops.swap import prepare, verified
from tests.recipes import UNEXAMINED

DIM = 16


class Block(nn.Module):
    """Layer norm, torch's multi-head attention of itself and a residual: (N, L, 16) -> the same."""

    def __init__(self, *, by_name: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.attn = nn.MultiheadAttention(DIM, 4, batch_first=True)
        self.by_name = by_name

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(tokens)
        if self.by_name:
            y, _ = self.attn(query=x, key=x, value=x, key_padding_mask=None, need_weights=False)
        else:
            y, _ = self.attn(x, x, x, attn_mask=None, need_weights=False)
        out: torch.Tensor = tokens + y
        return out


class Net(nn.Module):
    """Two such blocks; the second passes query, key and value by name."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(DIM, DIM)
        self.blocks = nn.Sequential(Block(), Block(by_name=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.blocks(self.stem(x))
        return out


class Mixed(nn.Module):
    """Calls an attention in a given way: (N, L, 16) -> the same."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.stem = nn.Linear(DIM, DIM)
        self.attn = nn.MultiheadAttention(DIM, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, y = self.stem(x), self.stem(x)
        ways: dict[str, list[tuple[torch.Tensor, ...]]] = {
            "crossed": [(x, y, y)],
            "value": [(x, x, y)],
            "once": [(x, x, x), (x, y, y)],
            "masked": [(x, x, x, torch.zeros(x.shape[:2], dtype=torch.bool))],
            "weights": [(x, x, x)],
        }
        asked = {} if self.way == "weights" else {"need_weights": False}
        for given in ways[self.way]:
            x = self.attn(*given, **asked)[0]
        return x


class Pixels(nn.Module):
    """Attention over the pixels of a map: (N, 3, H, W) -> (N, H W, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, DIM, 1)
        self.block = Block()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.block(self.stem(x).flatten(2).transpose(1, 2))
        return out


class Own(nn.Module):
    """A class of the user's own that takes tokens alone: (N, L, C) -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x) + x.mean(1, keepdim=True)
        return out


class Three(Own):
    """As `Own`, of query, key and value."""

    def forward(  # type: ignore[override] # another call
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        return super().forward(query) + key + value


def recipe(
    with_: str, match: str = "**.attn", more: str = ", adapt: true", verify: str = UNEXAMINED
) -> Recipe:
    text = f"""\
version: 1
inputs: [{{shape: [2, 9, {DIM}]}}]
{verify}
replace: [{{match: "{match}", with: "{with_}"{more}}}]
"""
    return parse_recipe(text, "swap.yaml", ".")


ROWS = ["SelfAttention", "MultiHeadSelfAttention", "BiLevelRoutingAttention"]
HERE = "tests.ops.test_self_attention"


@pytest.mark.parametrize("name", [*ROWS, f"{HERE}:Own"])
def test_key_and_value_that_are_the_query_are_dropped(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(3, 9, DIM)
    grid = ", grid: [3, 3]" if name == "BiLevelRoutingAttention" else ""
    swap = recipe(name, more=f", adapt: true{grid}")

    outcome = modswap.replace(model, swap)
    for suffix in ("pt", "safetensors"):
        modswap.save(model, tmp_path / f"out.{suffix}", recipe=swap)

    assert outcome.ok
    first, second = model.blocks[0].attn, model.blocks[1].attn
    assert isinstance(first, SiteAdapter)
    assert isinstance(second, SiteAdapter)
    assert (first.repeats, second.repeats) == (("1", "2"), ("key", "value"))
    tokens = torch.randn(2, 9, DIM)
    y, none = first(tokens, tokens, tokens, attn_mask=None, need_weights=False)
    assert none is None
    bare = first.module(tokens.unflatten(1, (3, 3)) if first.wants == "NHWC" else tokens)
    assert torch.equal(y, bare.reshape(y.shape))
    for suffix, factory in (("pt", None), ("safetensors", f"{HERE}:Net")):
        loaded = modswap.load(tmp_path / f"out.{suffix}", factory, allow=[f"{HERE}.*"])
        assert torch.equal(loaded.eval()(x), model(x))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("unreal", [False, True])
def test_swap_passes_every_examination(unreal: bool) -> None:
    text = """
version: 1
inputs: [{shape: [2, 3, 4, 4]}]
replace: [{match: block.attn, with: SelfAttention, adapt: true}]
"""
    model = Pixels().eval()
    wanted = parse_recipe(text, "swap.yaml", ".")
    prepared = prepare(model, wanted, unreal=unreal)

    with verified(model, prepared, lambda _: None) as standing:
        bench = Bench(model, prepared, standing.after, standing.old, wanted)
        verdict = examined(standing.verdict, bench, EXAMINATIONS)

    assert verdict.ok, verdict.problems
    by_check = {one.check: one.status for one in verdict.findings if one.path != ""}
    assert {by_check[name] for name in ("dependence", "independence", "reached")} == {"passed"}
    assert [one.status for one in verdict.findings if one.check == "matrix"] == ["passed"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ROWS, f"{HERE}:Own"])
def test_swap_of_calls_by_position_and_by_name_passes_every_examination(name: str) -> None:
    more, verify = ", adapt: true", ""
    if name == "BiLevelRoutingAttention":  # takes tokens of this one map alone
        more, verify = more + ", grid: [3, 3]", "verify: {sizes: narrower}"

    assert modswap.replace(Net().eval(), recipe(name, more=more, verify=verify)).ok


@pytest.fixture(scope="module")
def swapped_attention() -> Any:
    model = Net().eval()
    modswap.replace(model, recipe("SelfAttention"))
    return model.blocks[0].attn


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda x: (x, x.clone(), x), "input 1 must be the same tensor as input 0"),
        (lambda x: (x, x, x * 2), "input 2 must be .* as in self-attention, and is another tensor"),
        (lambda x: (x, x.view_as(x), x), "input 1 must be the same tensor"),
        (lambda x: (x, x), "input 2 must be the same tensor as input 0, .* and is None"),
    ],
)
def test_another_tensor_than_the_query_is_refused_when_it_runs(
    swapped_attention: Any, given: Any, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        swapped_attention(*given(torch.randn(1, 9, DIM)), need_weights=False)


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("crossed", "input 1 .* it is another tensor than the first, as in cross-attention"),
        ("value", "input 2 .* it is another tensor than the first, as in cross-attention"),
        ("once", "input 1 .* it is the same tensor as the first here, and not in every call"),
        (
            "masked",
            r"also given input 3 \('key_padding_mask'\), \(2, 9\) bool, .*; key_padding_mask hides",
        ),
    ],
)
def test_what_was_not_the_query_in_every_call_is_refused_in_words(way: str, told: str) -> None:
    with pytest.raises(ModswapError, match=told):
        modswap.replace(Mixed(way), recipe("SelfAttention", "attn"))


def test_weights_that_were_asked_for_are_missed() -> None:
    with pytest.raises(ModswapError, match="no projection or pooling makes up for that"):
        modswap.replace(Mixed("weights"), recipe("SelfAttention", "attn"))


@pytest.mark.parametrize(
    ("way", "told"),
    [("crossed", "it is another tensor than the first"), ("once", "same tensor as the first here")],
)
def test_class_of_the_user_that_takes_tokens_alone_is_refused_too(way: str, told: str) -> None:
    with pytest.raises(ModswapError, match=rf"Own takes \(x: .*, the site is called as .*{told}"):
        modswap.replace(Mixed(way), recipe(f"{HERE}:Own", "attn"))


def test_class_of_ones_own_that_takes_all_three_is_given_them() -> None:
    model = Mixed("crossed").eval()

    modswap.replace(model, recipe(f"{HERE}:Three", "attn"))

    assert isinstance(model.attn, SiteAdapter)
    assert (model.attn.repeats, model.attn.ignores) == ((), ("need_weights",))


class Encoder(nn.Module):
    """A stem and torch's own encoder, which reads its layers' attributes: (N, L, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(DIM, DIM)
        layer = nn.TransformerEncoderLayer(DIM, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.encoder(self.stem(x))
        return out


@pytest.mark.parametrize(
    ("match", "attribute", "path"),
    [
        ("encoder.layers.*", "self_attn", "encoder.layers.0"),
    ],
)
def test_host_that_reads_the_replaced_module_is_reported_with_the_attribute(
    match: str, attribute: str, path: str
) -> None:
    with pytest.raises(ModswapError) as error:
        modswap.replace(Encoder().eval(), recipe("SelfAttention", match))

    text = str(error.value)
    assert f"object has no attribute '{attribute}'; the module around reads `.{attribute}`" in text
    assert f"keep '{path}' out with `exclude`" in text


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_attention_of_torchs_encoder_is_replaced_and_inherited(name: str, tmp_path: Path) -> None:
    model = Encoder().eval()
    x = torch.randn(2, 9, DIM)
    with torch.no_grad():
        before = model(x)
    rule = recipe("MultiHeadSelfAttention", "**.self_attn", ", adapt: true, start: inherit")

    outcome = modswap.replace(model, rule)
    modswap.save(model, tmp_path / name, recipe=rule)
    factory = f"{__name__}:Encoder"
    loaded = modswap.load(tmp_path / name, model=factory, allow=[f"{__name__}.*"])

    assert outcome.ok
    assert not [note for site in outcome.sites for note in site.notes if "batch_first" in note]
    for one in (model, loaded.eval()):
        with torch.no_grad():
            torch.testing.assert_close(one(x), before)


def test_host_keeps_running_where_the_module_that_it_reads_is_excluded() -> None:
    model = Encoder().eval()
    excluded = ", adapt: true, exclude: encoder.layers.0"

    assert modswap.replace(model, recipe("SelfAttention", "encoder.layers.*", excluded)).ok
    assert isinstance(model.encoder.layers[1], SiteAdapter)

"""Refused recipes and calls of the command, of many kinds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from torch import nn

from tests.fixes import nets
from tests.fixes.ways import Call
from tests.models import (
    KeywordGate,
    ManyCalls,
    PairNet,
    SharedNet,
    Strided,
    Tied,
    TokenNet,
    build_gated,
)
from tests.recipes import UNEXAMINED

ALLOW = ("--allow", "tests.*")
GATED, TOKENS, CLASS_TOKEN = "gated", "tokens", "class token"
MODELS: dict[str, Callable[[], nn.Module]] = {
    GATED: build_gated,
    TOKENS: TokenNet,
    CLASS_TOKEN: lambda: TokenNet(class_token=True),
    "strided": Strided,
    "many calls": ManyCalls,
    "shared": SharedNet,
    "pair": PairNet,
    "tied": Tied,
    "keyword": KeywordGate,
    "encoder": nets.Encoder,
    "decoder": nets.Decoder,
    "signal": nets.Signal,
    "sentence": nets.Sentence,
    "last": nets.ChannelsLast,
    "towers": nets.Towers,
    "volume": nets.Volume,
    "square": nets.Square,
    "masked": nets.Masked,
}
INPUTS = {
    GATED: "1,3,28,28",
    TOKENS: "2,3,16,16",
    CLASS_TOKEN: "2,3,56,56",
    "strided": "1,8,28,28",
    "many calls": "1,4,8,8",
    "shared": "1,8,8,8",
    "pair": "2,9,16",
    "tied": "2,5:int64",
    "keyword": "1,4,8,8",
    "encoder": "2,9,16",
    "decoder": "2,9,16",
    "signal": "2,4,20",
    "sentence": "2,16:int64",
    "last": "1,3,16,24",
    "towers": "1,3,16,16",
    "volume": "1,3,4,8,8",
    "square": "1,8,8,8",
    "masked": "2,9,16",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that is refused.

    Args:
        name: The kind of fault.
        model: Key of `MODELS`.
        call: The call; its file is net.pt.
    """

    name: str
    model: str
    call: Call


def rule(name: str, model: str, text: str, more: str = "", *, examined: str = "") -> Refused:
    """Return the check of a recipe with one rule; `more` are further lines."""
    shape, _, dtype = INPUTS[model].partition(":")
    given: Any = {"shape": [int(size) for size in shape.split(",")]}
    given |= {"dtype": dtype, "fill": "zeros"} if dtype else {}
    recipe: Any = {"version": 1, "inputs": [given]}
    recipe |= yaml.safe_load(examined or UNEXAMINED)
    recipe["replace"] = [yaml.safe_load(f"{{{text}}}")]
    further = yaml.safe_load(more or "{}")
    if "insert" in further:
        del recipe["replace"]
    recipe |= further
    return Refused(name, model, Call(("check", "net.pt", "-c", "swap.yaml", *ALLOW), recipe))


def command(name: str, model: str, *args: str, recipe: str = "") -> Refused:
    """Return another call of the command; net.pt and --input are added."""
    given = yaml.safe_load(recipe) if recipe else None
    return Refused(name, model, Call((args[0], "net.pt", *args[1:]), given))


def one_rule(name: str, model: str, match: str, *args: str) -> Refused:
    """Return a check without a recipe."""
    shape = f"--input={INPUTS[model]}"
    return command(name, model, "check", shape, *ALLOW, "--match", match, "--with", *args)


SE, BRA, MHSA = "with: SEBlock", "with: BiLevelRoutingAttention", "with: MultiHeadSelfAttention"
BOTH = 'match: "{space,channel}_attention"'
WHOLE = "verify: {}"


def _patterns() -> Iterator[Refused]:
    yield rule("pattern: a letter", GATED, f"match: spase_attention, {SE}")
    yield rule("pattern: part of a name", GATED, f"match: attention, {SE}")
    yield rule("pattern: a class", GATED, f"match: Sequential, {SE}")
    yield rule("pattern: regular expression", GATED, f"match: '(space|channel)_attention', {SE}")
    yield rule("pattern: regular expression, .*", GATED, f"match: '.*_attention', {SE}")
    yield rule("pattern: regular expression, $", GATED, f"match: 'space_attention$', {SE}")
    yield rule(
        "pattern: regular expression, digits", TOKENS, f"match: 'blocks\\.\\d+\\.attn', {SE}"
    )
    yield rule("pattern: broken regular expression", GATED, f"match: 're:(space', {SE}")
    yield rule("pattern: one star across levels", TOKENS, f"match: '*.attn', {MHSA}")
    yield rule("pattern: index in brackets", TOKENS, f"match: 'blocks[0].attn', {MHSA}")
    yield rule("pattern: python's path", TOKENS, f"match: 'model.blocks.0.attn', {MHSA}")
    yield rule("pattern: module.", TOKENS, f"match: 'module.blocks.0.attn', {MHSA}")
    yield rule("pattern: weight", TOKENS, f"match: 'blocks.0.attn.weight', {MHSA}")
    yield rule("pattern: range", TOKENS, f"match: 'blocks.{{0..1}}.attn', {MHSA}")
    yield rule("pattern: out of range", TOKENS, f"match: 'blocks.7.attn', {MHSA}")
    yield rule("pattern: star too many", GATED, f"match: '**', {SE}")
    yield rule("pattern: star", GATED, f"match: '*', {SE}")
    yield rule("pattern: catch-all, many classes", GATED, f"match: '**.*', {SE}")
    yield rule("pattern: empty", GATED, f"match: '', {SE}")
    yield rule("pattern: unclosed brace", GATED, f"match: '{{space,channel_attention', {SE}")
    yield rule("pattern: an operation", GATED, f"match: sigmoid, {SE}")
    yield rule("class: wrong", GATED, f"match: '*_attention', class: Conv2d, {SE}")
    yield rule("class: a letter", GATED, f"match: '*_attention', class: Sequental, {SE}")
    yield rule("where: nothing", GATED, f"match: '*_attention', where: {{channels: '>99'}}, {SE}")
    yield rule("where: unknown key", GATED, f"match: '*_attention', where: {{chanels: '>9'}}, {SE}")
    yield rule("exclude: nothing", GATED, f"match: '*_attention', exclude: stem, {SE}")
    yield rule("exclude: everything", GATED, f"match: head, exclude: head, {SE}")
    yield rule("expect: too few", GATED, f"match: '*_attention', expect: 3, {SE}")
    yield rule("expect: a word", GATED, f"match: '*_attention', expect: two, {SE}")
    yield rule(
        "two rules on one site",
        GATED,
        f"match: head, {SE}",
        f"replace: [{{match: head, {SE}}}, {{match: 'he*', {SE}}}]",
    )
    yield rule(
        "one inside another",
        GATED,
        f"match: head, {SE}",
        f"replace: [{{match: space_attention, {SE}}}, {{match: space_attention.0, {SE}}}]",
    )
    yield rule("never called", "many calls", f"match: unused, {SE}")
    yield rule("never called, one of two", "many calls", f"match: [unused, mix.conv], {SE}")
    yield rule("match and a list", TOKENS, f"match: blocks, {MHSA}")


def _names() -> Iterator[Refused]:
    for name in (
        "SEBlok", "SEAtention", "SelfAtention", "CBAMBlock", "EMA", "Attention", "nn.Identity",
        "torch.nn.Identity", "torch.nn:Idenity", "torch.nm:Identity", "tests.models:Kep",
        "nets.py:Gate", "timm:Nothing", "torch.nn:functional", "bilevelroutingattention", "SE",
        "torch.nn:Module", "tests.models:build_gated", "CoordAtt", "BiFormer", "",
    ):  # fmt: skip
        yield rule(f"name: {name}", GATED, f"{BOTH}, with: '{name}'")
    yield rule("keys: a letter", GATED, f"{BOTH}, {SE}, adpat: true")
    yield rule("keys: wiht", GATED, f"{BOTH}, wiht: SEBlock")
    yield rule("keys: at the top", GATED, f"{BOTH}, {SE}", "modes: [eval]")
    yield rule("keys: verfy", GATED, f"{BOTH}, {SE}", "verfy: {modes: [eval]}")
    yield rule("keys: version 2", GATED, f"{BOTH}, {SE}", "version: 2")
    yield rule("keys: no rule", GATED, f"{BOTH}, {SE}", "replace: []")
    yield rule("keys: examination", GATED, f"{BOTH}, {SE}", "verify: {skip: [gradient]}")
    yield rule("keys: mode", GATED, f"{BOTH}, {SE}", "verify: {modes: [evaluate]}")
    yield rule("keys: dtype", GATED, f"{BOTH}, {SE}", "verify: {dtypes: [float]}")
    yield rule("keys: start", GATED, f"{BOTH}, {SE}, start: inherited")
    yield rule("keys: layout", GATED, f"{BOTH}, {SE}, layout: BCHW")
    yield rule("keys: layout in small letters", GATED, f"{BOTH}, {SE}, layout: nchw")
    yield rule("keys: yes", GATED, f"{BOTH}, {SE}, adapt: 'yes'")
    yield rule("keys: init", GATED, f"{BOTH}, {SE}, init: {{weight: trunc_norml}}")
    yield rule("keys: donor without start", GATED, f"{BOTH}, {SE}, donor: {{file: a.pt, path: b}}")
    yield rule("keys: start donor without donor", GATED, f"{BOTH}, {SE}, start: donor")
    yield rule(
        "keys: no such donor", GATED, f"{BOTH}, {SE}, start: donor, donor: {{file: a.pt, path: b}}"
    )


def _arguments() -> Iterator[Refused]:
    yield rule("args: a letter", GATED, f"{BOTH}, {BRA}, args: {{num_head: 4}}")
    yield rule("args: unknown", GATED, f"{BOTH}, {SE}, args: {{colour: red}}")
    yield rule("args: wrong type", GATED, f"{BOTH}, {BRA}, args: {{num_heads: many}}")
    yield rule("args: heads", GATED, f"{BOTH}, {BRA}, args: {{num_heads: 5}}")
    yield rule("args: heads below one", GATED, f"{BOTH}, {BRA}, args: {{num_heads: 0}}")
    yield rule("args: windows", GATED, f"{BOTH}, {BRA}, args: {{n_win: 5, auto_pad: false}}")
    yield rule("args: windows larger than the map", GATED, f"{BOTH}, {BRA}, args: {{n_win: 99}}")
    yield rule("args: topk", GATED, f"{BOTH}, {BRA}, args: {{n_win: 2, topk: 9}}")
    yield rule("args: dim", GATED, f"{BOTH}, {BRA}, args: {{dim: 8}}")
    yield rule("args: reduction", GATED, f"{BOTH}, {SE}, args: {{reduction: 99}}")
    yield rule("args: kernel", GATED, f"{BOTH}, with: ECA, args: {{kernel_size: 4}}")
    yield rule("args: acmix", GATED, f"{BOTH}, with: ACmix, args: {{head: 5}}")
    yield rule("args: acmix, large kernel", GATED, f"{BOTH}, with: ACmix, args: {{kernel_att: 99}}")
    yield rule("args: acmix, even kernel", GATED, f"{BOTH}, with: ACmix, args: {{kernel_att: 4}}")
    yield rule("args: window", GATED, f"{BOTH}, with: WindowAttention, args: {{window_size: 0}}")
    yield rule(
        "args: of a class", GATED, f"{BOTH}, with: 'torch.nn:Conv2d', args: {{out_chanels: 4}}"
    )
    yield rule("args: missing of a class", GATED, f"{BOTH}, with: 'tests.fixes.nets:Needs'")
    yield rule(
        "args: refused by a class", GATED, f"{BOTH}, with: 'torch.nn:Conv2d', args: {{groups: 3}}"
    )
    yield rule(
        "args: wrong type for a class",
        GATED,
        f"{BOTH}, with: 'torch.nn:Conv2d', args: {{kernel_size: a}}",
    )
    yield rule(
        "args: auto that is not known",
        GATED,
        f"{BOTH}, with: 'tests.fixes.nets:Needs', args: {{depth: auto}}",
    )
    yield rule("prefix: none", GATED, f"{BOTH}, {SE}, prefix: gate")
    yield rule("wants: of a row", GATED, f"{BOTH}, {SE}, wants: NHWC")


def _shapes() -> Iterator[Refused]:
    yield rule("shape: stride", "strided", f"match: down, {SE}")
    yield rule("shape: stride, attention", "strided", f"match: down, {BRA}")
    yield rule("shape: class of the user", "strided", "match: down, with: 'torch.nn:Identity'")
    yield rule(
        "shape: convolution", "strided", "match: down, with: 'torch.nn:Conv2d', args: {stride: 1}"
    )
    yield rule(
        "shape: channels of a class",
        GATED,
        f"{BOTH}, with: 'torch.nn:Conv2d', args: {{in_channels: 3}}",
    )
    yield rule("shape: linear on a map", GATED, f"{BOTH}, with: 'torch.nn:Linear'")
    yield rule(
        "shape: gives a pair",
        GATED,
        f"{BOTH}, with: 'tests.models:PairAttention', args: {{dim: 16}}",
    )
    yield rule("shape: a pair is taken", "pair", "match: attn, with: 'torch.nn:Linear'")
    yield rule("shape: raises", GATED, f"{BOTH}, with: 'tests.fixes.nets:Raises'")
    yield rule("shape: raises when made", GATED, f"{BOTH}, with: 'tests.fixes.nets:RaisesWhenMade'")
    yield rule("shape: takes two", GATED, f"{BOTH}, with: 'tests.fixes.nets:TakesTwo'")
    yield rule(
        "shape: half of the map",
        GATED,
        f"{BOTH}, with: 'torch.nn:MaxPool2d', args: {{kernel_size: 2}}",
    )
    yield rule("shape: wrong adapt", GATED, f"{BOTH}, {SE}, adapt: true, output: changed")
    yield rule("layout: wrong", GATED, f"{BOTH}, {BRA}, layout: NHWC")
    yield rule("layout: tokens of a map", GATED, f"{BOTH}, {SE}, layout: NLC")
    yield rule("layout: map of tokens", TOKENS, f"match: 'blocks.*.attn', {SE}, layout: NCHW")
    yield rule("layout: wants", GATED, f"{BOTH}, with: 'torch.nn:Conv2d', wants: NHWC")
    yield rule("layout: last", "last", "match: mix, with: 'torch.nn:Conv2d', layout: NCHW")
    yield rule("layout: square", "square", "match: mix, with: 'tests.models:ChannelsLastMixer'")
    yield rule("layout: (length, batch)", "encoder", f"match: 'layers.*.linear1', {MHSA}")
    yield rule("layout: convolution in a row", "signal", f"match: gate, {BRA}")
    yield rule("layout: attention in a row", "signal", f"match: gate, {MHSA}")
    yield rule("tokens: grid", CLASS_TOKEN, f"match: 'blocks.*.attn', {BRA}")
    yield rule("tokens: grid, gate", CLASS_TOKEN, f"match: 'blocks.*.attn', with: CBAM")
    yield rule("tokens: wrong grid", TOKENS, f"match: 'blocks.*.attn', {BRA}, grid: [3, 5]")
    yield rule("tokens: grid of a map", GATED, f"{BOTH}, {BRA}, grid: [3, 5]")
    yield rule("tokens: a sentence", "sentence", f"match: mix, {BRA}")
    yield rule(
        "tokens: a class for maps",
        TOKENS,
        "match: 'blocks.*.attn', with: 'torch.nn:Conv2d', args: {kernel_size: 3, padding: 1}",
    )
    yield rule("volume", "volume", f"match: mid, {SE}")
    yield rule(
        "volume, class", "volume", "match: mid, with: 'torch.nn:Conv3d', args: {kernel_size: 1}"
    )
    yield rule("vectors", TOKENS, f"match: head, {SE}")
    yield rule("vectors, embedding", "tied", f"match: words, {MHSA}")


def _inputs() -> Iterator[Refused]:
    yield rule("inputs: mask", "masked", f"match: attn, {BRA}")
    yield rule("inputs: mask, tokens", "masked", f"match: attn, {MHSA}")
    yield rule("inputs: cross-attention", "decoder", f"match: cross, {MHSA}")
    yield rule("inputs: keyword", "keyword", f"match: gate, {SE}")
    yield rule("inputs: second", "keyword", f"match: gate, {SE}, input: 7")
    yield rule("inputs: name", "keyword", f"match: gate, {SE}, input: q")
    yield rule("dummy: channels", GATED, f"{BOTH}, {SE}", "inputs: [{shape: [1, 4, 28, 28]}]")
    yield rule("dummy: axes", GATED, f"{BOTH}, {SE}", "inputs: [{shape: [3]}]")
    yield rule(
        "dummy: dtype", GATED, f"{BOTH}, {SE}", "inputs: [{shape: [1, 3, 28, 28], dtype: int64}]"
    )
    yield rule(
        "dummy: dtype's name",
        GATED,
        f"{BOTH}, {SE}",
        "inputs: [{shape: [1, 3, 28, 28], dtype: float}]",
    )
    yield rule("dummy: zero", GATED, f"{BOTH}, {SE}", "inputs: [{shape: [0, 3, 28, 28]}]")
    yield rule("dummy: huge", GATED, f"{BOTH}, {SE}", "inputs: [{shape: [1, 3, 2800000, 28000]}]")
    yield rule("dummy: list", GATED, f"{BOTH}, {SE}", "inputs: [1, 3, 28, 28]")
    yield rule(
        "dummy: keyword",
        GATED,
        f"{BOTH}, {SE}",
        "inputs: [{args: [], kwargs: {y: {shape: [1, 3, 28, 28]}}}]",
    )
    yield rule(
        "dummy: too many", GATED, f"{BOTH}, {SE}", "inputs: [{args: [{shape: [1, 3, 28, 28]}, 5]}]"
    )
    yield rule(
        "dummy: words for a net of maps",
        "sentence",
        f"match: mix, {MHSA}",
        "inputs: [{shape: [2, 16]}]",
    )


def _heads() -> Iterator[Refused]:
    k3 = "with: 'torch.nn:Conv2d', args: {out_channels: 7, kernel_size: 3, padding: 1}"
    yield rule("head: gate of a row", GATED, "match: head, with: ConvGate, args: {out_channels: 7}")
    yield rule("head: in the middle", GATED, f"match: stem, {k3}")
    yield rule(
        "head: rows lost", "towers", f"match: second, {k3.replace('padding: 1', 'padding: 0')}"
    )
    yield rule("head: read by weights", "towers", f"match: gate, {k3}")
    yield rule(
        "head: linear in the middle",
        TOKENS,
        "match: 'blocks.0.attn', with: 'torch.nn:Linear', args: {out_features: 7}",
    )
    yield rule(
        "head: expected",
        TOKENS,
        "match: head, with: 'torch.nn:Linear', args: {out_features: 7}",
        f"{UNEXAMINED.replace('{skip', '{expect: {output: [2, 8]}, skip')}",
    )
    yield rule("head: own class", TOKENS, "match: head, with: 'tests.fixes.nets:Seven'")
    yield rule(
        "head: preserve", TOKENS, "match: head, with: 'tests.fixes.nets:Seven', start: preserve"
    )
    yield rule("sharing: sizes", "towers", f"match: [stem, gate], {SE}, share: true")
    yield rule("sharing: heads", "strided", "match: [down, head], with: ConvGate, share: true")
    yield rule("start: inherit", GATED, f"{BOTH}, {SE}, start: inherit")
    yield rule("start: inherit, class", GATED, f"{BOTH}, with: 'torch.nn:Identity', start: inherit")
    yield rule("start: preserve", "strided", f"match: down, {SE}, start: preserve")


def _insertions() -> Iterator[Refused]:
    for place in ("after", "before", "around"):
        insert = f"insert: [{{{place}: spase_attention, with: CBAM}}]"
        yield rule(f"insert: {place}, a letter", GATED, f"match: head, {SE}", insert)
        insert = (
            f"insert: [{{{place}: down, with: 'torch.nn:MaxPool2d', args: {{kernel_size: 2}}}}]"
        )
        yield rule(f"insert: {place}, shape", "strided", f"match: head, {SE}", insert)
    for more in ("input: 3", "output: 3", "start: inherit", "adapt: true", "name: 'a.b'"):
        insert = f"insert: [{{after: stem, with: CBAM, {more}}}]"
        yield rule(f"insert: {more}", GATED, f"match: head, {SE}", insert)
    insert = "insert: [{after: attn, with: MultiHeadSelfAttention}]"
    yield rule("insert: a pair", "pair", f"match: head, {SE}", insert)


def _examined() -> Iterator[Refused]:
    yield rule(
        "examined: kept tensor", GATED, f"{BOTH}, with: 'tests.fixes.nets:Keeps'", examined=WHOLE
    )
    yield rule(
        "examined: lambda", GATED, f"{BOTH}, with: 'tests.fixes.nets:Lambda'", examined=WHOLE
    )
    yield rule(
        "examined: one batch", GATED, f"{BOTH}, with: 'tests.models:OneBatch'", examined=WHOLE
    )
    yield rule(
        "examined: sizes",
        GATED,
        f"{BOTH}, {BRA}, args: {{n_win: 7, auto_pad: false}}",
        examined=WHOLE,
    )
    yield rule(
        "examined: ignores", GATED, f"{BOTH}, with: 'tests.fixes.nets:Ignores'", examined=WHOLE
    )
    yield rule("examined: draws", GATED, f"{BOTH}, with: 'tests.fixes.nets:Draws'", examined=WHOLE)
    yield rule(
        "examined: no gradient", GATED, f"{BOTH}, with: 'tests.fixes.nets:Detaches'", examined=WHOLE
    )
    yield rule(
        "examined: mixes samples", GATED, f"{BOTH}, with: 'tests.fixes.nets:Mixes'", examined=WHOLE
    )
    yield rule(
        "examined: float64", GATED, f"{BOTH}, with: 'tests.fixes.nets:Doubles'", examined=WHOLE
    )
    yield rule("examined: nan", GATED, f"{BOTH}, with: 'tests.fixes.nets:Nan'", examined=WHOLE)
    yield rule("examined: limits", GATED, f"{BOTH}, {SE}", "verify: {limits: {max_params: 1}}")


def _options() -> Iterator[Refused]:
    yield one_rule("option: pattern", GATED, "spase_attention", "SEBlock")
    yield one_rule("option: regular expression", GATED, "(space|channel)_attention", "SEBlock")
    yield one_rule("option: shape", "strided", "down", "SEBlock")
    yield one_rule(
        "option: heads", GATED, "*_attention", "BiLevelRoutingAttention", "--set", "num_heads=5"
    )
    yield one_rule(
        "option: argument", GATED, "*_attention", "BiLevelRoutingAttention", "--set", "num_head=4"
    )
    yield one_rule("option: tokens", CLASS_TOKEN, "blocks.*.attn", "BiLevelRoutingAttention")
    yield one_rule("option: layout", "encoder", "layers.*.linear1", "MultiHeadSelfAttention")
    yield one_rule("option: square", "square", "mix", "tests.models:ChannelsLastMixer")
    yield one_rule("option: head", GATED, "head", "ConvGate", "--set", "out_channels=7")
    yield one_rule("option: never called", "many calls", "{unused,mix.conv}", "SEBlock")
    yield one_rule("option: expect", GATED, "*_attention", "SEBlock", "--expect", "3")
    yield one_rule("option: set", GATED, "*_attention", "SEBlock", "--set", "reduction")
    yield one_rule(
        "option: set twice",
        GATED,
        "*_attention",
        "SEBlock",
        "--set",
        "reduction=4",
        "--set",
        "reduction=2",
    )
    yield one_rule("option: start", GATED, "*_attention", "SEBlock", "--start", "inherited")
    yield one_rule("option: start donor", GATED, "*_attention", "SEBlock", "--start", "donor")
    yield one_rule(
        "option: preserve and a shape", "strided", "down", "SEBlock", "--start", "preserve"
    )
    whole = ("check", *ALLOW, "--match", "head", "--with", "SEBlock")
    yield command("input: no shape", GATED, *whole, "--input", "1x3x28x28")
    yield command("input: a word", GATED, *whole, "--input", "a,b")
    yield command("input: dtype", GATED, *whole, "--input", "1,3,28,28:float")
    yield command("input: channels", GATED, *whole, "--input", "1,4,28,28")
    yield command(
        "input: auto and a shape", GATED, *whole, "--input", "auto", "--input", "1,3,28,28"
    )
    yield command("input: two", GATED, *whole, "--input", "1,3,28,28", "--input", "1,3,28,28")
    yield command("no rule", GATED, "check", *ALLOW, "--input", "1,3,28,28")
    yield command("no with", GATED, "check", *ALLOW, "--match", "head")
    yield command("no match", GATED, "check", *ALLOW, "--with", "SEBlock")
    yield command("recipe and a rule", GATED, *whole, "-c", "swap.yaml", recipe="version: 1")
    yield command("no such recipe", GATED, "check", *ALLOW, "-c", "other.yaml")
    yield command("not allowed", GATED, "check", "--match", "head", "--with", "SEBlock")
    yield command(
        "wrongly allowed",
        GATED,
        "check",
        "--match",
        "head",
        "--with",
        "SEBlock",
        "--allow",
        "tests.models.Gated",
    )
    yield command(
        "allow: no name",
        GATED,
        "check",
        "--match",
        "head",
        "--with",
        "SEBlock",
        "--allow",
        "GatedNet",
    )
    yield command(
        "allow: everything", GATED, "check", "--match", "head", "--with", "SEBlock", "--allow", "*"
    )
    yield command(
        "alias",
        GATED,
        "check",
        "--match",
        "head",
        "--with",
        "SEBlock",
        "--alias",
        "tests.models.GatedNet",
    )
    yield command("command", GATED, "chekc")
    yield command("an option", GATED, *whole, "--inputs", "1,3,28,28")
    yield command("a format", GATED, *whole, "--format", "jsn")
    yield command("an exclusion", GATED, *whole, "--exclude", "haed")
    swap = ("replace", *ALLOW, "--input", "1,3,28,28", "--match", "head", "--with", "SEBlock")
    yield command("output: none", GATED, *swap)
    yield command("output: there", GATED, *swap, "-o", "there.pt")
    yield command("output: the input", GATED, *swap, "-o", "net.pt")
    yield command("output: a folder that is not there", GATED, *swap, "-o", "no/out.pt")
    yield command("output: no forward", GATED, *swap, "-o", "out.pt", "--no-forward")
    yield command("tree: input", GATED, "tree", "--input", "1,4,28,28", *ALLOW)
    yield command("tree: not allowed", GATED, "tree", "--input", "1,3,28,28")
    yield command("init: input", GATED, "init", "--input", "1,4,28,28", *ALLOW)
    yield command("init: not allowed", GATED, "init", "-o", "init.yaml")
    yield command("init: there", GATED, "init", "--input", "1,3,28,28", "-o", "there.pt", *ALLOW)
    yield command("revert: nothing", GATED, "revert", "-o", "out.pt", *ALLOW)
    yield command("finalize: nothing", GATED, "finalize", "-o", "out.pt", *ALLOW)
    yield command("verify: nothing", GATED, "verify")
    yield command("code: nothing", GATED, "code", *ALLOW)
    yield command("explain: path", GATED, "explain")


CASES: tuple[Refused, ...] = (
    *_patterns(), *_names(), *_arguments(), *_shapes(), *_inputs(), *_heads(), *_insertions(),
    *_examined(), *_options(),
)  # fmt: skip

"""Recipes whose modules do not fit."""

from collections.abc import Iterator

from tests.fixes.refused import (
    BOTH,
    BRA,
    CLASS_TOKEN,
    GATED,
    MHSA,
    SE,
    TOKENS,
    WHOLE,
    Refused,
    rule,
)
from tests.recipes import UNEXAMINED


def shapes() -> Iterator[Refused]:
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
    yield rule("layout: tokens of a map", GATED, f"{BOTH}, {SE}, layout: NLC")
    yield rule("layout: map of tokens", TOKENS, f"match: 'blocks.*.attn', {SE}, layout: NCHW")
    yield rule("layout: wants", GATED, f"{BOTH}, with: 'torch.nn:Conv2d', wants: NHWC")
    yield rule("layout: last", "last", "match: mix, with: 'torch.nn:Conv2d', layout: NCHW")
    yield rule("layout: square", "square", "match: mix, with: 'tests.models:ChannelsLastMixer'")
    yield rule(
        "layout: (length, batch)",
        "encoder",
        f"match: 'layers.*.linear1', {MHSA}",
        examined=WHOLE,
    )
    yield rule("layout: convolution in a row", "signal", f"match: gate, {BRA}")
    yield rule("layout: attention in a row", "signal", f"match: gate, {MHSA}")
    yield rule("tokens: grid", CLASS_TOKEN, f"match: 'blocks.*.attn', {BRA}")
    yield rule("tokens: grid, gate", CLASS_TOKEN, "match: 'blocks.*.attn', with: CBAM")
    yield rule("tokens: wrong grid", TOKENS, f"match: 'blocks.*.attn', {BRA}, grid: [3, 5]")
    yield rule("tokens: grid of a map", GATED, f"{BOTH}, {BRA}, grid: [3, 5]")
    yield rule("tokens: a sentence", "sentence", f"match: mix, {BRA}")
    yield rule("volume", "volume", f"match: mid, {SE}")
    yield rule(
        "volume, class", "volume", "match: mid, with: 'torch.nn:Conv3d', args: {kernel_size: 1}"
    )
    yield rule("vectors", TOKENS, f"match: head, {SE}")
    yield rule("vectors, embedding", "tied", f"match: words, {MHSA}")


def inputs() -> Iterator[Refused]:
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


def heads() -> Iterator[Refused]:
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
        UNEXAMINED.replace("{skip", "{expect: {output: [2, 8]}, skip"),
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


def insertions() -> Iterator[Refused]:
    for place in ("after", "before", "around"):
        insert = f"insert: [{{{place}: spase_attention, with: CBAM}}]"
        yield rule(f"insert: {place}, a letter", GATED, f"match: head, {SE}", insert)
        insert = (
            f"insert: [{{{place}: down, with: 'torch.nn:MaxPool2d', args: {{kernel_size: 2}}}}]"
        )
        yield rule(f"insert: {place}, shape", "strided", f"match: head, {SE}", insert)
    for more in ("input: 3", "output: 3", "start: inherit", "name: 'a.b'"):
        insert = f"insert: [{{after: stem, with: CBAM, {more}}}]"
        yield rule(f"insert: {more}", GATED, f"match: head, {SE}", insert)
    insert = "insert: [{after: attn, with: MultiHeadSelfAttention}]"


def examined() -> Iterator[Refused]:
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

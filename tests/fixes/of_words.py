"""Recipes with wrong patterns, names and arguments."""

from collections.abc import Iterator

from tests.fixes.refused import BOTH, BRA, GATED, MHSA, SE, TOKENS, Refused, rule


def patterns() -> Iterator[Refused]:
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


def names() -> Iterator[Refused]:
    for name in (
        "SEBlok", "SEAtention", "SelfAtention", "EMA", "Attention", "nn.Identity",
        "torch.nn.Identity", "torch.nn:Idenity", "torch.nm:Identity", "tests.models:Kep",
        "nets.py:Gate", "timm:Nothing", "torch.nn:functional",
        "torch.nn:Module", "tests.models:build_gated", "",
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


def arguments() -> Iterator[Refused]:
    yield rule("args: a letter", GATED, f"{BOTH}, {BRA}, args: {{num_head: 4}}")
    yield rule("args: unknown", GATED, f"{BOTH}, {SE}, args: {{colour: red}}")
    yield rule("args: wrong type", GATED, f"{BOTH}, {BRA}, args: {{num_heads: many}}")
    yield rule("args: heads", GATED, f"{BOTH}, {BRA}, args: {{num_heads: 5}}")
    yield rule("args: heads below one", GATED, f"{BOTH}, {BRA}, args: {{num_heads: 0}}")
    yield rule("args: windows", GATED, f"{BOTH}, {BRA}, args: {{n_win: 5, auto_pad: false}}")
    yield rule("args: topk", GATED, f"{BOTH}, {BRA}, args: {{n_win: 2, topk: 9}}")
    yield rule("args: dim", GATED, f"{BOTH}, {BRA}, args: {{dim: 8}}")
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

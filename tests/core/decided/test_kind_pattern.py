"""Selections that take given modules and no others."""

import pytest

from modswap.core.asked.patterns import compile_pattern
from modswap.core.decided.kind_pattern import Selection, selection_of

OTHERS = ["stem", "blocks", "head", "norm"]


def model(**groups: list[str]) -> dict[str, str]:
    """Return the class of every path, from paths by class."""
    classes = dict.fromkeys(OTHERS, "Conv2d")
    return classes | {path: name for name, paths in groups.items() for path in paths}


def blocks(names: str, count: int = 3) -> list[str]:
    return [f"blocks.{index}.{name}" for index in range(count) for name in names.split()]


STAGES = [f"layers.{a}.blocks.{b}.attn" for a in range(2) for b in range(2)]


@pytest.mark.parametrize(
    ("chosen", "others", "selection"),
    [
        (["stem"], [], Selection(("stem",))),
        (blocks("attn"), blocks("mlp"), Selection(("blocks.*.attn",))),
        (STAGES, [], Selection(("layers.*.blocks.*.attn",))),
        (STAGES[::2], STAGES[1::2], Selection(("layers.*.blocks.0.attn",))),
        (
            ["blocks.0.attn", "blocks.2.attn"],
            ["blocks.1.attn"],
            Selection(("blocks.{0,2}.attn",)),
        ),
        (
            ["channel_attention", "space_attention"],
            ["mix_attention"],
            Selection(("{channel,space}_attention",)),
        ),
        (
            ["up.gate_a", "up.gate_b"],
            ["up.gate_c"],
            Selection(("up.gate_{a,b}",)),
        ),
        (["a.x.attn", "b.attn"], ["a.x.b"], Selection(("**.attn",))),
        (
            ["enc.a.attn", "enc.b.c.attn"],
            ["dec.attn"],
            Selection(("enc.**.attn",)),
        ),
        (
            ["encoder.mid.attentions.0", "decoder.mid.attentions.0"],
            ["encoder.down.0", "decoder.mid.attentions.0.norm"],
            Selection(("**.attentions.0",)),
        ),
        (
            ["a.attns.0", "b.c.attns.0", "b.c.attns.1"],
            ["a.convs.0"],
            Selection(("**.attns.*",)),
        ),
        (
            ["d.0.attention1", "d.0.attention2", "d.1.attention1", "d.1.attention2"],
            ["d.0.conv1", "d.1.attention3"],
            Selection(("d.*.attention{1,2}",)),
        ),
        (["m.cv1.conv", "m.cv2.conv"], ["m.cv3.conv"], Selection(("m.cv{1,2}.conv",))),
        (["0", "1.0"], ["1"], Selection(("**.0",))),
        (
            [f"stage.{n}" for n in "abcdefghij"],
            [],
            Selection(("stage.*",)),
        ),
    ],
)
def test_shortest_pattern_of_a_kind_is_found(
    chosen: list[str], others: list[str], selection: Selection
) -> None:
    assert selection_of(chosen, model(Attention=chosen, Other=others)) == selection


def test_class_is_named_where_names_differ() -> None:
    chosen = ["a.first", "b.c.second", "d.third"]

    found = selection_of(chosen, model(Attention=chosen, Other=["a.x", "b.c.y"]))

    assert found == Selection(("**",), class_="Attention")


def test_names_without_a_common_part_are_put_into_braces_where_classes_differ() -> None:
    classes = model(Channel=["a.ca", "b.c.ca"], Space=["a.sa", "b.c.sa"], Other=["a.x"])

    assert selection_of(["a.ca", "a.sa", "b.c.ca", "b.c.sa"], classes) == Selection(("**.{ca,sa}",))


def test_few_exceptions_are_excluded() -> None:
    every = blocks("attn", 9)

    found = selection_of([*every[:4], *every[5:]], model(Attention=every))

    assert found == Selection(("blocks.{0,1,2,3,5,6,7,8}.attn",))
    longer = blocks("attn", 20)
    found = selection_of([*longer[:4], *longer[5:]], model(Attention=longer))
    assert found == Selection(("blocks.*.attn",), ("blocks.4.attn",))


@pytest.mark.parametrize(
    "chosen", [["a[0]", "a[1]"], ["attn[0].x", "q"], ["a", "head.b"]], ids=lambda one: one[0]
)
def test_modules_without_a_common_pattern_are_listed(chosen: list[str]) -> None:
    others = [*OTHERS, "head.a", "stem.b"]
    classes = dict(zip(chosen, ("A", "B"), strict=True)) | dict.fromkeys(others, "A")

    assert selection_of(chosen, classes) == Selection(tuple(chosen))


def test_selection_takes_what_was_chosen_alone() -> None:
    every = model(Attention=STAGES, Mlp=[path.replace("attn", "mlp") for path in STAGES])
    for skipped in STAGES:
        chosen = [path for path in STAGES if path != skipped]
        found = selection_of(chosen, every)
        patterns = [compile_pattern(text) for text in found.match]
        out = [compile_pattern(text) for text in found.exclude]
        assert {
            path
            for path in every
            if any(one.matches(path) for one in patterns)
            and not any(one.matches(path) for one in out)
        } == set(chosen)

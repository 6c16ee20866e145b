"""Layouts are judged from the modules that ran."""

import pytest

from modswap.core.seen.layout import Clue, KnownLayers, judge_layout, other_layout

CONV = Clue("a.conv", "Conv2d", "NCHW", (1, 8, 5, 6))
NORM = Clue("a.norm", "LayerNorm", "NHWC", (1, 5, 6, 8))
TOKENS = Clue("b.proj", "Linear", "NLC", (1, 30, 8))
SIGNAL = Clue("c.conv", "Conv1d", "NCL", (1, 8, 30))


MAP, ROW = (1, 8, 5, 6), (1, 30, 8)
WINDOWS = Clue("a.windows.proj", "Linear", "NHWC", (30, 1, 1, 8))


@pytest.mark.parametrize(
    ("path", "shape", "same", "clues", "layout", "reason"),
    [
        ("a.conv", MAP, [CONV], [], "NCHW", "the same tensor goes through it (Conv2d)"),
        ("a", MAP, [NORM, CONV], [CONV], "NHWC", "goes through its 'norm' (LayerNorm)"),
        ("b", MAP, [NORM], [], "NHWC", "goes through 'a.norm' (LayerNorm)"),
        (
            "a.gate",
            MAP,
            [],
            [CONV, TOKENS],
            "NCHW",
            "a layer beside it took 4-D tensors like it",
        ),
        (
            "z",
            MAP,
            [],
            [CONV, CONV],
            "NCHW",
            "2 layers beside it took 4-D tensors like it",
        ),
        (
            "b",
            ROW,
            [CONV],
            [CONV, TOKENS],
            "NLC",
            "a layer inside it took 3-D tensors like it",
        ),
        ("a.gate", (1, 8, 8, 8), [], [CONV, NORM], None, "which say NCHW and NHWC"),
        # windows of as many axes as the map that they are cut from
        ("a.windows", MAP, [], [WINDOWS, CONV], "NCHW", "a layer beside it took"),
        ("y.z.windows", MAP, [], [WINDOWS, CONV, CONV], "NCHW", "2 layers in the model took"),
        ("a.b.windows", MAP, [], [CONV], "NCHW", "a layer inside 'a' took"),
        (
            "a.windows",
            (1, 4, 7, 7),
            [],
            [WINDOWS, CONV],
            None,
            "all layers of the model",
        ),
        ("z", (1, 4, 7, 7), [], [CONV], "NCHW", "the model that took 4-D tensors (Conv2d)"),
        ("c", (1, 8, 30), [], [SIGNAL], None, "like it (Conv1d), which says NCL"),
        ("c", (1, 8, 30), [], [SIGNAL] * 2, None, "like it (Conv1d), which say NCL"),
        ("c", (1, 8, 30), [SIGNAL], [], None, "goes through its 'conv' (Conv1d), which says NCL"),
        ("c", (1, 9, 40), [], [SIGNAL] * 2, None, "3-D tensors (Conv1d), which say NCL"),
        ("a", MAP, [], [TOKENS], None, "no layer of known convention takes such tensors"),
        ("a", (1, 8), [CONV], [CONV], None, "a tensor of 2 axes is neither a map nor tokens"),
    ],
)
def test_layout_has_a_reason(
    path: str,
    shape: tuple[int, ...],
    same: list[Clue],
    clues: list[Clue],
    layout: str | None,
    reason: str,
) -> None:
    told, why = judge_layout(path, shape, same, KnownLayers(clues))

    assert told == layout
    assert reason in why


@pytest.mark.parametrize(
    ("layout", "rank", "other"),
    [("NCL", 3, "NCL"), ("LNC", 3, "LNC"), ("NLC", 3, ""), ("NCL", 4, "")],
)
def test_layout_that_no_rule_can_say_is_known(layout: str, rank: int, other: str) -> None:
    clue = Clue("a", "Conv1d", layout, (2, 8, 5))

    assert other_layout((2, 8, 5, 1)[:rank], [clue]) == other
    assert other_layout((2, 8, 5), []) == ""

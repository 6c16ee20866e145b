"""How layouts are told from what was seen."""

import pytest

from modswap.core.layout import Clue, judge_layout

CONV = Clue("a.conv", "Conv2d", "NCHW", 4)
NORM = Clue("a.norm", "LayerNorm", "NHWC", 4)
TOKENS = Clue("b.proj", "Linear", "NLC", 3)
SIGNAL = Clue("c.conv", "Conv1d", "NCL", 3)


@pytest.mark.parametrize(
    ("path", "rank", "same", "clues", "layout", "reason"),
    [
        ("a.conv", 4, [CONV], [], "NCHW", "the same tensor goes through it (Conv2d)"),
        ("a", 4, [NORM, CONV], [CONV], "NHWC", "goes through its 'norm' (LayerNorm)"),
        ("b", 4, [NORM], [], "NHWC", "goes through 'a.norm' (LayerNorm)"),
        ("a.gate", 4, [], [CONV, TOKENS], "NCHW", "1 layers inside 'a' take 4-D tensors (Conv2d)"),
        ("z", 4, [], [CONV, CONV], "NCHW", "2 layers in the model take 4-D tensors (Conv2d)"),
        ("b", 3, [CONV], [CONV, TOKENS], "NLC", "1 layers inside 'b' take 3-D tensors (Linear)"),
        ("a.gate", 4, [], [CONV, NORM], None, "(Conv2d, LayerNorm), which say NCHW and NHWC"),
        ("c", 3, [], [SIGNAL], None, "which say NCL"),
        ("a", 4, [], [TOKENS], None, "no layer of known convention takes such tensors"),
        ("a", 2, [CONV], [CONV], None, "a tensor of 2 axes is neither a map nor tokens"),
    ],
)
def test_layout_is_told_with_its_reason(
    path: str, rank: int, same: list[Clue], clues: list[Clue], layout: str | None, reason: str
) -> None:
    told, why = judge_layout(path, rank, same, clues)

    assert told == layout
    assert reason in why

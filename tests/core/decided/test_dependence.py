"""Changes of dependence that are faults, and others."""

import pytest

from modswap.core.decided.dependence import InputChange, is_causal


@pytest.mark.parametrize(
    ("old", "new", "lost", "gained"),
    [
        (0.1, 0.0, True, False),
        (0.1, 0.2, False, False),
        (0.0, 0.0, False, False),
        (0.0, 0.1, False, True),
        (5e-5, 0.0, False, False),
        (0.1, 5e-5, False, False),
        (5e-5, 0.1, False, False),
    ],
)
def test_only_what_is_clear_on_both_sides_is_lost_or_gained(
    old: float, new: float, lost: bool, gained: bool
) -> None:
    moves = InputChange("mask", old, new)

    assert (moves.lost, moves.gained) == (lost, gained)


def test_ignored_inputs_are_those_that_moved_the_original_alone() -> None:
    moves = [
        InputChange("x", 0.5, 0.3),
        InputChange("mask", 0.5, 0.0),
        InputChange("cache", 0.0, 0.0),
    ]

    assert [one.cause for one in moves if one.lost] == ["mask"]


@pytest.mark.parametrize(
    ("backward", "forward", "expected"),
    [
        ([0.0, 0.0], 0.5, True),
        ([0.0, 0.5], 0.5, False),
        ([0.0, 0.0], 0.0, False),
    ],
)
def test_causal_is_what_sees_before_itself_and_not_behind(
    backward: list[float], forward: float, expected: bool
) -> None:
    assert is_causal(backward, forward) is expected

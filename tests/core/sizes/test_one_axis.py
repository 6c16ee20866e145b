"""Rules for one axis: the sizes they accept, their words, and that they explain all trials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.sizes.one_axis import AxisRule, divisors, fit_axis

TRIED = range(1, 100)
SIDES = st.sets(st.integers(1, 300), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("good", "words"),
    [
        (set(TRIED), "any"),
        (set(range(7, 100)), "at least 7"),
        (set(range(1, 51)), "at most 50"),
        (set(range(7, 51)), "from 7 to 50"),
        ({24}, "exactly 24"),
        ({1, 24}, "exactly 24, or 1"),
        (set(range(8, 100, 8)), "divisible by 8"),
        (set(range(16, 100, 8)), "divisible by 8, at least 16"),
        (set(range(16, 90, 8)), "divisible by 8, from 16 to 88"),
        (set(range(1, 100, 2)), "odd"),
        ({1, *range(2, 100, 2)}, "divisible by 2, or 1"),
        (set(range(5, 100, 16)), "5 more than a multiple of 16"),
        ({n for n in TRIED if n % 14 in {0, 13}}, "with a remainder of 0 or 13 by 14"),
        ({n for n in TRIED if n % 14 < 3}, "with a remainder of 0 to 2 by 14, or 1"),
        ({n for n in TRIED if n % 14 in {2, 3, 4, 13}}, "with a remainder of 2 to 4 or 13 by 14"),
    ],
)
def test_rule_that_is_found_says_what_was_tried(good: set[int], words: str) -> None:
    bad = set(TRIED) - good

    rule = fit_axis(good, bad)

    assert rule is not None
    assert str(rule).removesuffix(", or 1") == words.removesuffix(", or 1")
    assert [n for n in TRIED if rule.takes(n)] == sorted(good)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({3, 7, 20}, set(range(1, 30)) - {3, 7, 20}),
        ({n for n in TRIED if n % 14 in {0, 2, 5}}, {n for n in TRIED if n % 14 not in {0, 2, 5}}),
        ({5, 6, 9}, {7, 8}),
        ({5, 9}, {5}),
    ],
    ids=["by chance", "too many remainders", "less than two periods", "said twice"],
)
def test_sizes_by_no_simple_rule_have_none(good: set[int], bad: set[int]) -> None:
    assert fit_axis(good, bad) is None


def test_several_remainders_make_no_rule_where_some_were_not_tried() -> None:
    good = {13, 14, 27, 28, 41, 42}

    assert fit_axis(good, {15, 16, 26, 29}) is None


@given(SIDES, SIDES)
def test_rule_never_contradicts_what_was_tried(good: set[int], bad: set[int]) -> None:
    rule = fit_axis(good, bad - good)

    if rule is not None:
        assert all(rule.takes(side) for side in good)
        assert not any(rule.takes(side) for side in bad - good)


@given(st.integers(1, 12), st.integers(0, 40))
def test_step_and_smallest_size_are_found(step: int, low: int) -> None:
    good = {n for n in TRIED if n % step == 0 and n >= low}

    rule = fit_axis(good, set(TRIED) - good)

    assert rule is not None
    assert rule.modulus == step or len(good) < 2
    assert [n for n in TRIED if rule.takes(n)] == sorted(good)


@pytest.mark.parametrize(
    ("rule", "single"),
    [
        (AxisRule(low=24, high=24), True),
        (AxisRule(low=24, high=24, one=True), True),
        (AxisRule(low=32, high=35), True),
        (AxisRule(low=2, high=8), False),
        (AxisRule(low=24), False),
        (AxisRule(high=24), False),
        (AxisRule(8, (0,), 24, 32), False),
    ],
)
def test_one_size_is_distinguished_from_several(rule: AxisRule, single: bool) -> None:
    assert rule.single is single


@pytest.mark.parametrize(("number", "found"), [(1, [1]), (12, [1, 2, 3, 4, 6, 12]), (0, [1])])
def test_divisors_are_all_found(number: int, found: list[int]) -> None:
    assert divisors(number) == found

"""Rules for sizes: the words, that no probe contradicts them, and that the probes suffice.

Covers: probes, two_axes.
"""

from collections.abc import Callable
from itertools import product
from math import isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modswap.core.sizes.probes import (
    few_sizes_to_try,
    rectangles,
    sizes_to_try,
    span_in_words,
)
from modswap.core.sizes.rule import explains, fit_rule, in_words, size_in_words
from modswap.core.sizes.two_axes import Size

Takes = Callable[..., bool]


def tried(
    takes: Takes, *first: int, most: int | None = None, thorough: bool = False
) -> dict[Size, bool]:
    """Return the probes of a sweep over a model that accepts these sizes."""
    probes = {first: True}
    for count, size in enumerate(sizes_to_try(first, probes, thorough=thorough)):
        if count == most:
            break
        probes[size] = bool(takes(*size))
    return probes


def is_square(area: int) -> bool:
    return area > 0 and isqrt(area) ** 2 == area


RULES: dict[str, tuple[tuple[int, ...], Takes, bool]] = {
    "any": ((32, 32), lambda h, w: True, False),
    "H and W at least 7": ((32, 40), lambda h, w: min(h, w) >= 7, False),
    "H at least 7 and W at least 5": ((32, 32), lambda h, w: h >= 7 and w >= 5, False),
    "H odd and W any": ((27, 28), lambda h, w: h % 2 == 1, False),
    "H divisible by 4 and W divisible by 3": (
        (24, 24), lambda h, w: h % 4 == 0 and w % 3 == 0, False,
    ),
    "H and W divisible by 32, at least 64": (
        (224, 224), lambda h, w: h % 32 == 0 and w % 32 == 0 and min(h, w) >= 64, False,
    ),
    "H and W divisible by 224": ((224, 224), lambda h, w: h % 224 == 0 and w % 224 == 0, False),
    "H and W with a remainder of 0 or 13 by 14": (
        (28, 28), lambda h, w: h % 14 in {0, 13} and w % 14 in {0, 13}, False,
    ),
    "H and W exactly 32": ((32, 32), lambda h, w: (h, w) == (32, 32), True),
    "H exactly 32 and W exactly 24": ((32, 24), lambda h, w: (h, w) == (32, 24), True),
    "H = W": ((28, 28), lambda h, w: h == w, False),
    "floor(H / 4) = floor(W / 4)": ((28, 28), lambda h, w: h // 4 == w // 4 > 0, False),
    "H and W divisible by 4, with H = W": ((28, 28), lambda h, w: h == w and h % 4 == 0, False),
    "H x W = 784 alone": ((28, 28), lambda h, w: h * w == 784, True),
    "floor(H / 2) x floor(W / 2) = 196 alone": (
        (28, 28), lambda h, w: (h // 2) * (w // 2) == 196, True,
    ),
    "floor((H + 1) / 2) x floor((W + 1) / 2) = 196 alone": (
        (28, 28), lambda h, w: ((h + 1) // 2) * ((w + 1) // 2) == 196, True,
    ),
    "floor((H - 12) / 4) x floor((W - 12) / 4) = 36 alone": (
        (36, 36), lambda h, w: min(h, w) > 15 and ((h - 12) // 4) * ((w - 12) // 4) == 36, True,
    ),
    "floor(H / 16) x floor(W / 16) = 196 alone": (
        (224, 224), lambda h, w: (h // 16) * (w // 16) == 196, True,
    ),
    "floor(H / 8) x floor(W / 4) = 32 alone": (
        (32, 32), lambda h, w: (h // 8) * (w // 4) == 32, True,
    ),
    "floor(H / 8) x floor(W / 8) = 16 or 1 alone": (
        (32, 32), lambda h, w: (h // 8) * (w // 8) in {1, 16}, True,
    ),
    "H and W divisible by 16, with H x W = 50176": (
        (224, 224), lambda h, w: h % 16 == 0 and w % 16 == 0 and h * w == 50176, True,
    ),
    "H x W divisible by 49": ((14, 14), lambda h, w: h * w % 49 == 0, False),
    "floor(H / 8) x floor(W / 8) a square": (
        (64, 64), lambda h, w: is_square((h // 8) * (w // 8)), False,
    ),
    "floor(H / 4) x floor(W / 4) the square of a multiple of 2": (
        (32, 32), lambda h, w: is_square(a := (h // 4) * (w // 4)) and isqrt(a) % 2 == 0, False,
    ),
    "L 1 more than a multiple of 16": ((65,), lambda n: n % 16 == 1, False),
    "L at most 512": ((128,), lambda n: n <= 512, False),
    "L exactly 128": ((128,), lambda n: n == 128, True),
}  # fmt: skip


@pytest.mark.each_once
@pytest.mark.parametrize("thorough", [False, True], ids=["quick", "thorough"])
@pytest.mark.parametrize("words", RULES)
def test_probes_lead_to_the_rule_that_brute_force_shows(words: str, thorough: bool) -> None:
    first, takes, single = RULES[words]

    probes = tried(takes, *first, thorough=thorough)
    rule = fit_rule(probes)

    assert in_words(rule, probes) == words
    assert rule is not None
    assert rule.single is single
    assert explains(rule, probes)
    everything = product(range(1, 90), repeat=len(first))
    assert [size for size in everything if rule.takes(size) is not bool(takes(*size))] == []


@pytest.mark.parametrize("words", ["H and W divisible by 224", "H x W = 784 alone", "any"])
@pytest.mark.parametrize("most", [40, 120, 300])
def test_rule_is_known_early(words: str, most: int) -> None:
    first, takes, _ = RULES[words]

    assert str(fit_rule(tried(takes, *first, most=most))) == words


def strange(high: int, wide: int) -> bool:
    return (high, wide) == (32, 32) or (high * 7919 + wide * 104729) % 11 < 5


def test_sizes_by_no_rule_are_listed() -> None:
    probes = tried(strange, 32, 32)

    rule = fit_rule(probes)

    assert rule is None
    listed = in_words(rule, probes)
    assert listed.startswith("sizes such as ")
    assert listed.endswith(", … (no simple rule explains all that were tried)")
    assert listed.count(" x ") == 8


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        ({(32, 32): True, (33, 33): True}, "all of the sizes tried"),
        ({(32, 32): False, (33, 33): False}, "none of the sizes tried"),
        (
            {(32, 32): True, (33, 33): False, (16, 64): True},
            "sizes such as 16 x 64, 32 x 32 (too few were tried for a rule)",
        ),
    ],
)
def test_few_sizes_make_no_rule(probes: dict[Size, bool], words: str) -> None:
    rule = fit_rule(probes)

    assert rule is None
    assert in_words(rule, probes) == words


def test_first_size_that_is_refused_makes_no_rule() -> None:
    probes: dict[Size, bool] = {(n, n): n > 1 for n in range(1, 30)}

    assert fit_rule(probes) is None


SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
MODELS: tuple[Takes, ...] = tuple(takes for first, takes, _ in RULES.values() if len(first) == 2)


@given(st.dictionaries(SIZES, st.booleans(), min_size=12, max_size=60))
def test_rule_never_contradicts_a_probe(probes: dict[Size, bool]) -> None:
    rule = fit_rule({(25, 25): True, **probes})

    assert rule is None or explains(rule, probes)


@given(st.lists(SIZES, min_size=24, max_size=200), st.sampled_from(MODELS), st.integers(0, 5))
def test_rule_of_some_probes_never_contradicts_them(
    sizes: list[Size], takes: Takes, spoilt: int
) -> None:
    probes = {(n, n): True for n in (28,)} | {size: bool(takes(*size)) for size in sizes}
    probes |= {size: not probes[size] for size in sizes[:spoilt]}

    rule = fit_rule(probes)

    assert rule is None or explains(rule, probes)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=2).map(tuple), st.booleans())
def test_every_size_is_tried_once_and_is_one(first: Size, ok: bool) -> None:
    probes = {first: True}
    for size in sizes_to_try(first, probes):
        assert size not in probes
        assert min(size) > 0
        probes[size] = ok

    assert len(probes) > 10


def test_size_of_which_nothing_is_known_is_not_tried_again() -> None:
    sizes = list(sizes_to_try((8, 8), {(8, 8): True}))

    assert len(sizes) == len(set(sizes))


def test_thorough_sweep_continues_where_a_rule_explains_all() -> None:
    quick, thorough = (tried(lambda n: n % 8 == 0, 64, thorough=t) for t in (False, True))

    assert len(quick) < 60
    assert set(thorough) >= {(n,) for n in range(1, 129)}


def test_words_of_sizes() -> None:
    assert size_in_words((224, 192)) == "224 x 192"
    assert size_in_words((77,)) == "77"
    assert span_in_words([(224, 192), (3, 448)]) == "3 to 448"


def test_squares_alone_tell_of_a_side_that_is_too_small() -> None:
    probes: dict[tuple[int, ...], bool] = {(s, s): s >= 8 for s in (64, *range(1, 64))}
    probes.update({(side, 64): True for side in range(8, 65)})

    rule = fit_rule(probes)

    assert str(rule) == "H and W at least 8"


def test_few_sizes_are_tried_where_a_plain_rule_is_enough() -> None:
    known: dict[Size, bool] = {(32, 32): True, (64, 64): True}

    few = [*few_sizes_to_try((32, 32), known)]

    assert 0 < len(few) < len([*sizes_to_try((32, 32), known, thorough=True)])
    assert known.keys().isdisjoint(few)
    assert min(map(min, few)) > 0


def test_rectangles_are_made_of_maps_alone() -> None:
    assert [*rectangles((64, 64), 32, {(32, 64): True})] == [(64, 32), (96, 64)]
    assert [*rectangles((64,), 32, {})] == []

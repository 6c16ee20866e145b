"""Tests of reading a rule's arguments."""

from typing import Any

import pytest

from modswap.core.errors import RecipeError
from modswap.nn import CATALOGUE
from modswap.nn.catalogue.row import Options, expectation, read_options

ROW = CATALOGUE["BiLevelRoutingAttention"]


def at(name: str) -> str:
    return f"swap.yaml:{name}"


def read(**args: Any) -> dict[str, Any]:
    return read_options(ROW, args, at).model_dump()


@pytest.mark.parametrize("name", list(ROW.options.model_fields))
def test_auto_is_as_good_as_left_out(name: str) -> None:
    assert read(**{name: "auto"}) == read()


def test_given_values_are_kept() -> None:
    assert read(num_heads=8, qk_scale=0.5, auto_pad=True) == read() | {
        "num_heads": 8,
        "qk_scale": 0.5,
        "auto_pad": True,
    }


@pytest.mark.parametrize("side", [0, 1, 5])
def test_odd_sides_and_zero_are_taken(side: int) -> None:
    assert read(side_dwconv=side)["side_dwconv"] == side


def test_options_without_rules_of_their_own_have_no_conflicts() -> None:
    assert list(Options().conflicts()) == []


def test_one_argument_is_reported_once() -> None:
    with pytest.raises(RecipeError) as error:
        read(diff_routing=True, soft_routing="no", num_heads=3, dim=16, qk_dim=8)

    assert [one.where for one in error.value.all] == [
        *(at("diff_routing"), at("soft_routing"), at("num_heads")),
    ]


def test_whole_number_is_good_for_a_factor() -> None:
    assert read(qk_scale=2)["qk_scale"] == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"n_win": "7"}, "n_win is '7', expected a whole number of at least 1 or auto; correct"),
        ({"n_win": 0}, "n_win is 0, expected a whole number of at least 1 or auto"),
        ({"n_win": 7.0}, "n_win is 7.0, expected a whole number of at least 1 or auto"),
        ({"n_win": True}, "n_win is True, expected a whole number of at least 1 or auto"),
        ({"kv_per_win": None}, "kv_per_win is None, expected a whole number of at least 1;"),
        ({"qk_scale": 0.0}, "qk_scale is 0.0, expected a number other than 0, or auto"),
        ({"qk_scale": float("nan")}, "qk_scale is nan, expected a number other than 0, or auto"),
        ({"auto_pad": "yes"}, "auto_pad is 'yes', expected true or false or auto"),
        ({"soft_routing": 1}, "soft_routing is 1, expected true or false;"),
        ({"side_dwconv": 4}, "side_dwconv is 4, expected an odd number, or 0 for none"),
        ({"side_dwconv": -3}, "side_dwconv is -3, expected an odd number, or 0 for none"),
        (
            {"kv_downsample_mode": "ada_maxpol"},
            "is 'ada_maxpol', expected 'identity', .* or 'maxpool'; did you mean 'ada_maxpool'",
        ),
        ({"kv_downsample_mode": "fracpool"}, "is 'fracpool', expected 'identity', 'ada_avgpool'"),
        ({"nwin": 7}, "BiLevelRoutingAttention has no argument 'nwin'; did you mean 'n_win'"),
        ({"zzz": 7}, "has no argument 'zzz'; it has dim, num_heads, n_win"),
        ({"layout": "NCHW"}, "no argument 'layout'; `layout` belongs to the rule, beside `args`"),
        (
            {"diff_routing": True},
            "diff_routing is true, soft_routing is false: .*; set `soft_routing: true` as well",
        ),
        (
            {"param_routing": True},
            "param_routing is true, diff_routing is false: .*; set `diff_routing: true`",
        ),
        ({"num_heads": 3, "dim": 16}, "num_heads 3 does not divide dim 16; set `num_heads: 2`"),
        ({"num_heads": 3, "qk_dim": 8}, "num_heads 3 does not divide qk_dim 8; set `num_heads:"),
        ({"topk": 5, "n_win": 2}, "topk is 5, but n_win 2 gives 4 windows; set `topk: 4` or less"),
    ],
)
def test_wrong_argument_is_named_with_what_was_expected(args: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        read(**args)

    assert error.value.where in {at(name) for name in args}


def test_everything_wrong_is_reported_at_once_in_the_order_of_the_recipe() -> None:
    with pytest.raises(RecipeError) as error:
        read(topk=0, diff_routing=True, heads=2, n_win="x")

    places = [one.where for one in error.value.all]
    assert places == [at("topk"), at("diff_routing"), at("heads"), at("n_win")]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "number"}, "a number"),
        ({"enum": ["only"]}, "'only'"),
        ({"type": "object"}, "a value"),
    ],
)
def test_expectation_is_written_in_words(schema: dict[str, Any], words: str) -> None:
    assert expectation(schema) == words

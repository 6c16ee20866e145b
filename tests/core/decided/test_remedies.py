"""The edits of a recipe that could mend an error."""

from typing import Any

import pytest

from modswap.core.asked.source import Place
from modswap.core.decided.remedies import Edit, candidates
from modswap.core.errors import (
    CheckpointError,
    MatchError,
    ModswapError,
    RecipeError,
    ShapeError,
    UnreachedError,
    together,
)
from modswap.core.finding import HERE
from modswap.core.seen.site import ANY_LAYOUT, ANY_MODULE_LAYOUT
from modswap.io.recipe.reader import parse_recipe

RECIPE = """\
version: 1
replace:
  - match: gate
    exclude: [gate.x]
    expect: 2
    with: BRA
    args: {topk: 9, mode: avg}
  - {match: [head, body], with: "a.py:B", args: {dim: 3}}
"""


def words(error: ModswapError) -> list[str]:
    recipe = parse_recipe(RECIPE, "swap.yaml", ".")
    return [f"{edit.place[1]} {edit.words}" for edit in candidates(error, recipe)]


NEAR = ("gates", "g", "a-[b")


def shape(where: str, *settings: tuple[str, Any]) -> ShapeError:
    return ShapeError("w", where, settings=settings)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (shape("gate", ("adapt", True)), ["0 adapt: true"]),
        (shape("gate", ("topk", 4)), ["0 topk: 4"]),
        (shape("gate", ("topk", 9)), []),  # the recipe has the value already
        (shape("gate", ("heads", 4), ("heads", "auto")), ["0 heads: 4", "0 heads: auto"]),
        (shape("head", ("dim", "auto")), ["1 dim: auto"]),
        (
            shape("gate", ("layout", "NCHW"), ("layout", "NHWC")),
            ["0 layout: NCHW", "0 layout: NHWC"],
        ),
        (
            shape("head", *ANY_MODULE_LAYOUT),
            ["1 wants: NCHW", "1 wants: NHWC", "1 wants: NLC"],
        ),
        (
            shape("gate.0", *ANY_LAYOUT),
            [f"{rule} {key}" for rule, key in (
                (0, "layout: NCHW"), (0, "layout: NHWC"), (0, "layout: NLC"),
                (1, "layout: NCHW"), (1, "layout: NHWC"), (1, "layout: NLC"),
                (1, "wants: NCHW"), (1, "wants: NHWC"), (1, "wants: NLC"),
            )],
        ),
        (
            UnreachedError("w", "gate", settings=(("exclude", "gate"),)),
            ["0 exclude: [gate.x, gate]"],
        ),
        (
            MatchError("w", "swap.yaml:3:5", settings=(("exclude", "gate.a"),)),
            ["0 exclude: [gate.x, gate.a]"],
        ),
        (
            MatchError("w", "swap.yaml:3:5", settings=tuple((HERE, n) for n in NEAR)),
            ["0 match: gates"],  # the other patterns name other modules
        ),
        (MatchError("w", "swap.yaml:8:14", settings=((HERE, "heads"),)), ["1 match: heads"]),
        (MatchError("w", "swap.yaml:3:5", settings=(("class", "Conv2d"),)), ["0 class: Conv2d"]),
        (RecipeError("w", "swap.yaml:7:21", settings=((HERE, "avgpool"),)), ["0 mode: avgpool"]),
        (shape("gate", (HERE, "avgpool")), []),  # a module is no key of a recipe
        (CheckpointError("w", "net.pt", settings=(("adapt", True),)), []),
        (ShapeError("w", "the model", "set `adapt: true`"), []),  # no message is read
    ],
)  # fmt: skip
def test_settings_of_an_error_become_edits(error: ModswapError, expected: list[str]) -> None:
    assert words(error) == expected


def test_errors_that_come_together_are_all_looked_at_once_each() -> None:
    one = shape("gate", ("adapt", True))
    two = shape("head", ("adapt", True))

    assert words(together([one, one, two])) == ["0 adapt: true", "1 adapt: true"]


@pytest.mark.parametrize(
    ("place", "value", "option"),
    [
        (("replace", 0, "args", "topk"), "4", "--set topk=4"),
        (("replace", 0, "adapt"), "true", "--adapt"),
        (("replace", 0, "match"), '"a.b"', "--match a.b"),
        (("replace", 0, "exclude"), '["a", "a.b"]', "--exclude a.b"),
        (("replace", 0, "output"), '"changed"', ""),
    ],
)
def test_edit_is_written_as_an_option(place: Place, value: str, option: str) -> None:
    assert Edit(place, value).option == option

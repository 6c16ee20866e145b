"""Which changes to a recipe could mend an error, read from what the error says."""

import pytest

from modswap.core.decided.remedies import candidates
from modswap.core.errors import (
    CheckpointError,
    MatchError,
    ModswapError,
    RecipeError,
    ShapeError,
    together,
)
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


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ShapeError("w", "gate", "set `adapt: true` in its rule"), ["0 adapt: true"]),
        (ShapeError("w", "gate", "set `topk: 4` or less"), ["0 topk: 4"]),
        (ShapeError("w", "gate", "set `topk: 9` or less"), []),  # it says so already
        (
            ShapeError("w", "gate", "set `heads: 4`, or leave it out"),
            ["0 heads: 4", "0 heads: auto"],
        ),
        (ShapeError("w", "head", "leave `dim` out"), ["1 dim: auto"]),
        (ShapeError("w", "head", "leave `adapt` out"), []),
        (
            ShapeError("w", "gate", "set `layout: NCHW` or `layout: NHWC` in its rule"),
            ["0 layout: NCHW", "0 layout: NHWC"],
        ),
        (
            ShapeError("w", "head", "set `wants:` in its rule"),
            ["1 wants: NCHW", "1 wants: NHWC", "1 wants: NLC"],
        ),
        (
            ShapeError("w", "gate.0", "change its args or its layout"),
            [f"{rule} {key}" for rule, key in (
                (0, "layout: NCHW"), (0, "layout: NHWC"), (0, "layout: NLC"),
                (1, "layout: NCHW"), (1, "layout: NHWC"), (1, "layout: NLC"),
                (1, "wants: NCHW"), (1, "wants: NHWC"), (1, "wants: NLC"),
            )],
        ),
        (
            ShapeError("the dummy forward never calls it", "gate", "give an input"),
            ["0 exclude: [gate.x, gate]"],
        ),
        (
            MatchError("'gate.a' lies inside 'gate'", "swap.yaml:3:5", "add it to `exclude`"),
            ["0 exclude: [gate.x, gate.a]"],
        ),
        (
            MatchError("3 modules match, expected 2: a", "swap.yaml:5:5", "correct `expect`"),
            [],  # the user's own guard
        ),
        (
            MatchError("no module", "swap.yaml:3:5", "did you mean 'gates', 'g' or 'a-[b'?"),
            ["0 match: gates"],  # the others are other names
        ),
        (MatchError("no module", "swap.yaml:8:14", "did you mean 'heads'?"), ["1 match: heads"]),
        (MatchError("w", "swap.yaml:3:5", "set `class` to Conv2d"), ["0 class: Conv2d"]),
        (RecipeError("w", "swap.yaml:7:21", "did you mean 'avgpool'?"), ["0 mode: avgpool"]),
        (RecipeError("BRA has no argument 'mode'", "swap.yaml:7:21", "did you mean 'm'?"), []),
        (CheckpointError("w", "net.pt", "set `adapt: true`"), []),
        (ShapeError("w", "the model"), []),
    ],
)  # fmt: skip
def test_advice_becomes_changes(error: ModswapError, expected: list[str]) -> None:
    assert words(error) == expected


def test_errors_that_come_together_are_all_looked_at_once_each() -> None:
    one = ShapeError("w", "gate", "set `adapt: true` in its rule")
    two = ShapeError("w", "head", "set `adapt: true` in its rule")

    assert words(together([one, one, two])) == ["0 adapt: true", "1 adapt: true"]

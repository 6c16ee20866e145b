"""Advice that names options where options made the rule."""

import pytest

from modswap.core.errors import CheckpointError, MatchError
from modswap.core.words.option_spelling import never_trusted, spelled, with_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "add `class:` to take modules of one kind, such as `class: Conv2d`",
            "add `--class` to take modules of one kind, such as `--class Conv2d`",
        ),
        ("set `adapt: true` in its rule", "set `--adapt`"),
        ("set `adapt: true` on its rule, or choose args", "set `--adapt`, or choose args"),
        ("`match: '**.a'` selects b.a", "`--match '**.a'` selects b.a"),
        ("correct `expect`, or narrow `match`", "correct `--expect`, or narrow `--match`"),
        ("set `dim` under `args`", "add `--set dim=…`"),
        ("correct `args`", "correct `--set`"),
        ("set `args: {nc: 8, k: [1, 2]}`, or", "add `--set nc=8 --set k=[1, 2]`, or"),
        ("try `args: {nc: 8}`", "try `--set nc=8`"),
        ("name it, `with: package.module:Class`", "name it, `--with package.module:Class`"),
        ("leave it out with `exclude`", "leave it out with `--exclude`"),
        ("run `modswap tree` to list the paths", "run `modswap tree` to list the paths"),
        ("set `layout: NCHW`", "set `layout: NCHW`"),
        ("set `num_heads: 4`, or leave it out", "add `--set num_heads=4`, or leave it out"),
    ],
)
def test_key_of_a_rule_is_named_as_its_option(text: str, expected: str) -> None:
    assert with_options(text) == expected


def test_error_and_those_that_came_with_it_are_spelled_and_the_originals_stay() -> None:
    second = MatchError("`exclude` removes all", "x", "set `layout: NCHW` in its rule")
    first = MatchError("no module", "--match", "narrow `match`", (second,))

    said = spelled(first)

    assert (said.fix, said.more[0].what) == ("narrow `--match`", "`--exclude` removes all")
    assert said.more[0].fix == "set `layout: NCHW` (in a recipe, which -c names)"
    both = spelled(MatchError("x", "x", "set `layout: NCHW` or `layout: NHWC` in its rule; else"))
    assert both.fix == "set `layout: NCHW` or `layout: NHWC` (in a recipe, which -c names); else"
    saved = "`output: changed` in the recipe that `--save-recipe FILE` writes"
    assert spelled(MatchError("x", "x", saved)).fix == saved
    assert (first.fix, second.what) == ("narrow `match`", "`exclude` removes all")


@pytest.mark.parametrize(
    ("fix", "expected"),
    [
        (
            "do not load it unless it is your own; for a file of your own making there is --trust",
            "do not load it unless it is your own",
        ),
        ("for a file of your own making there is --trust", "save it again with a current torch"),
        ("save or download it again", "save or download it again"),
    ],
)
def test_reader_that_builds_nothing_speaks_of_no_trust(fix: str, expected: str) -> None:
    error = CheckpointError("it is odd", "net.pt", fix)
    error.more = (CheckpointError("and this", "net.pt", fix),)

    changed = never_trusted(error)

    assert (changed.what, changed.where, changed.fix) == ("it is odd", "net.pt", expected)
    assert changed.more[0].fix == expected
    assert error.fix == fix

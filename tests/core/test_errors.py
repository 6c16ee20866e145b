"""The text of errors, and that errors survive pickling."""

import pickle

import pytest

from modswap.core import errors
from modswap.core.errors import RecipeError, ShapeError, together
from modswap.core.finding import Finding


def test_error_says_where_what_and_what_to_do() -> None:
    error = errors.MatchError("no module matches 'a'", "swap.yaml:7", "run `modswap tree`")

    assert str(error) == "swap.yaml:7: no module matches 'a'; run `modswap tree`"


def test_error_without_place_and_fix_says_what() -> None:
    assert str(errors.UsageError("what")) == "what"


def test_errors_come_together_in_order() -> None:
    inner = errors.together([errors.RecipeError("b", "2"), errors.RecipeError("c", "3")])

    both = errors.together([errors.RecipeError("a", "1"), inner])

    assert str(both) == "1: a\n2: b\n3: c"
    assert [error.where for error in both.all] == ["1", "2", "3"]
    assert type(both) is errors.RecipeError


def test_one_error_stays_itself() -> None:
    error = errors.ShapeError("a")

    assert errors.together([error]) is error


def test_error_survives_pickling() -> None:
    error = errors.together([errors.ShapeError("a", "b", "c"), errors.ShapeError("d")])

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is errors.ShapeError
    assert str(copy) == str(error)


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (errors.ShapeError, 1),
        (errors.UsageError, 2),
        (errors.RecipeError, 2),
        (errors.MatchError, 2),
        (errors.InputError, 2),
        (errors.CheckpointError, 3),
        (errors.UnsafeError, 4),
        (errors.ModswapError, 70),
    ],
)
def test_every_kind_has_the_exit_code_that_was_promised(
    cls: type[errors.ModswapError], code: int
) -> None:
    assert cls.code == code


def test_error_of_a_finding_carries_its_check_its_settings_and_itself_between_processes() -> None:
    finding = Finding("gradients", "", "failed", "none reach it", "set it", {}, (("topk", 4),))

    error = pickle.loads(pickle.dumps(ShapeError.of(finding)))

    assert (error.check, error.finding, error.settings) == ("gradients", finding, (("topk", 4),))
    assert str(error) == "the model: none reach it; set it"


def test_error_with_another_fix_or_further_errors_keeps_what_it_carries() -> None:
    error = RecipeError("a", "x", "b", settings=(("topk", 4),))
    error.rule = "swap.yaml:3:5"

    changed = together([error, RecipeError("c")]).with_fix("d")

    assert str(changed) == "x: a; d\nc"
    assert (changed.rule, changed.settings, error.fix) == ("swap.yaml:3:5", (("topk", 4),), "b")


def test_error_at_another_place_or_of_another_fault_leaves_the_first_one() -> None:
    error = ShapeError("wrong", "a", "mend it")

    assert str(error.at("b").saying("odd")) == "b: odd; mend it"
    assert str(error) == "a: wrong; mend it"

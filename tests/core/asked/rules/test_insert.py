"""The keys of a rule that puts modules in beside others."""

from typing import Any

import pytest
from pydantic import ValidationError

from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.insert import Insert


def test_the_place_and_the_tensors_are_read() -> None:
    after = Insert.model_validate({"after": "a", "with": "CBAM", "output": 0})
    around = Insert.model_validate({"around": ["a", "b"], "with": "CBAM", "input": ["x", 1]})

    assert (after.place, after.match, after.target, after.source) == ("after", ("a",), (0,), ())
    assert (around.place, around.source, around.start) == ("around", ("x", 1), "preserve")
    assert after.beside


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({}, "not none"),
        ({"after": "a", "before": "b"}, "not `after` and `before`"),
        ({"after": "a", "input": 0}, "`input` goes with"),
        ({"before": "a", "output": 0}, "`output` goes with"),
        ({"after": "a", "name": "x.y"}, "letters, digits"),
        ({"after": "a", "output": True}, "output"),
        ({"after": "a", "start": "inherit"}, "start"),
    ],
)
def test_wrong_keys_are_refused(keys: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        Insert.model_validate({"with": "CBAM"} | keys)


def test_a_recipe_has_rules_of_either_kind() -> None:
    insert = {"after": "a", "with": "CBAM"}
    both = {"version": 1, "replace": [{"match": "b", "with": "ECA"}], "insert": [insert]}

    assert [place for place, _ in Recipe.model_validate(both).rules] == [
        ("replace", 0),
        ("insert", 0),
    ]
    with pytest.raises(ValidationError, match="`replace` or `insert`"):
        Recipe.model_validate({"version": 1})

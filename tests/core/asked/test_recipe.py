"""Recipes and the places of their keys."""

import pytest
from pydantic import ValidationError

from modswap.core.asked.recipe import Recipe


def test_recipe_made_in_python_has_a_place_all_the_same() -> None:
    recipe = Recipe.model_validate({"version": 1, "replace": [{"match": "a", "with": "B"}]})

    assert recipe.at("replace", 0) == "<recipe>"
    assert recipe.source.folder == "."


@pytest.mark.parametrize(("sizes", "narrower"), [(["narrower"], True), ([], False)])
def test_recipe_may_allow_fewer_sizes(sizes: list[str], narrower: bool) -> None:
    verify = {"sizes": sizes, "optional": ["export"]}
    rule = {"match": "a", "with": "ACmix"}

    found = Recipe.model_validate({"version": 1, "replace": [rule], "verify": verify}).verify

    assert found.narrower is narrower
    assert found.may_lack("export", "limits")
    assert not found.may_lack("limits")


@pytest.mark.parametrize(
    ("known", "expected"),
    [(("matrix",), "'matrix'"), (("matrix", "cost", "export"), "'matrix', 'cost' or 'export'")],
)
def test_examination_that_is_not_known_is_refused_with_those_that_are(
    known: tuple[str, ...], expected: str
) -> None:
    rule = {"match": "a", "with": "ACmix"}
    asked = {"version": 1, "replace": [rule], "verify": {"skip": ["matrices"]}}

    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(asked, context={"examinations": known})

    (error,) = caught.value.errors()
    assert error["loc"] == ("verify", "skip", 0)
    assert error["msg"] == f"Input should be {expected}"

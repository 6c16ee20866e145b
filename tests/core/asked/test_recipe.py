"""Recipes and the places of their keys."""

import pytest

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

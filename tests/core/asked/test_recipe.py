"""Recipes and the places of their keys."""

from modswap.core.asked.recipe import Recipe


def test_recipe_made_in_python_has_a_place_all_the_same() -> None:
    recipe = Recipe.model_validate({"version": 1, "replace": [{"match": "a", "with": "B"}]})

    assert recipe.at("replace", 0) == "<recipe>"
    assert recipe.source.folder == "."

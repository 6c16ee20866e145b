"""A recipe of one rule, made of arguments of a function."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modswap.core.asked.recipe import Recipe
from modswap.core.asked.source import Place, RuleText
from modswap.core.errors import UsageError
from modswap.ops.recipes import recipe_of_options

PLACES = ("match", "after", "before", "around")
Inputs = Sequence[Sequence[int] | Mapping[str, Any]]


def recipe_of_call(rule: Mapping[str, Any], inputs: Inputs = ()) -> Recipe:
    """Return the recipe of a rule with its dummy inputs; errors name the arguments.

    Args:
        rule: The keys of a rule, `with_` and `class_` for `with` and `class`; None for none.
        inputs: A shape for each call of the model, or a mapping as in a recipe's `inputs`.

    Raises:
        UsageError: If there is not one place, no module, or a value that no recipe can hold.
        RecipeError: If the rule is wrong.
    """
    given = {name.removesuffix("_"): v for name, v in rule.items() if v is not None}
    places = [name for name in PLACES if name in given]
    if len(places) != 1:
        named = " and ".join(places) or "none"
        raise UsageError(f"one of {', '.join(PLACES)} is needed, not {named}", "modswap")
    if "with" not in given:
        raise UsageError("there is no new module", "with_", "name one: with_='CBAM'")
    part = "replace" if places == ["match"] else "insert"
    recipe = {"version": 1, part: [given]}
    if inputs:
        recipe["inputs"] = [one if isinstance(one, Mapping) else {"shape": one} for one in inputs]
    options: dict[Place, str] = {(part, 0, name): _argument(name) for name in given}
    options |= {("inputs",): "inputs", (part, 0): _argument(places[0])}
    try:
        text = json.dumps(recipe)
    except (TypeError, ValueError) as error:
        what = f"a recipe holds plain data: {error}"
        raise UsageError(what, part, "give numbers, texts, lists and dictionaries") from None
    return recipe_of_options(RuleText(text, options))


def _argument(name: str) -> str:
    return f"{name}_" if name in {"with", "class"} else name

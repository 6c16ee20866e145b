"""The options of a sweep, read: new modules, values to try, and the rule that selects the sites."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modswap.cli.one_rule import OneRule, settings_of
from modswap.core.errors import UsageError

if TYPE_CHECKING:
    from modswap.core.asked.recipe import Recipe

WITH = "--with"


def modules_of(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the new modules, each once.

    Raises:
        UsageError: If there is none.
    """
    if not names:
        raise UsageError("there is no new module to try", WITH, "add --with MODULE")
    return tuple(dict.fromkeys(names))


def grid_of(texts: Sequence[str]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Return the options of all `--grid OPTION=A,B`, each with its values, as YAML reads a list.

    Raises:
        UsageError: If one is no such text, or given twice, or names a value twice.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            fix = "write --grid topk=1,4,8"
            raise UsageError(f"{text!r:.80} is no OPTION=A,B", "--grid", fix)
        listed = next(iter(settings_of([f"{name}=[{values}]"]).values()))
        if name.strip() in found:
            raise UsageError(f"{name!r:.80} is given twice", "--grid", "keep one of them")
        if any(one in listed[:place] for place, one in enumerate(listed)):
            raise UsageError(f"{text!r:.80} has a value twice", "--grid", "keep one of them")
        found[name.strip()] = tuple(listed)
    return tuple(found.items())


def recipe_of(rule: OneRule) -> "Recipe":
    """Return the recipe of the rule that selects the sites.

    Raises:
        UsageError: If it is half a rule, or puts modules in beside others.
        RecipeError: If the rule is wrong.
    """
    rule.refuse_half()
    if rule.start == "preserve":
        what = "behind a gate of 0 every new module computes what the old one did"
        raise UsageError(what, "--start", "sweep with fresh or inherit")

    from modswap.ops.recipes import recipe_of_options

    return recipe_of_options(rule.text(()))

"""The rule for modules that were selected, as the text of a recipe."""

from collections.abc import Sequence

from modswap.core.asked.recipe import Recipe
from modswap.core.decided.kind_pattern import selection_of
from modswap.core.errors import RecipeError
from modswap.core.seen.tree import Tree
from modswap.io.recipe.reader import write_recipe


def rule_text(tree: Tree, chosen: Sequence[str], module: str) -> str:
    """Return a recipe that replaces the chosen modules, and no others, by `module`.

    Raises:
        RecipeError: If there is no such module in the catalogue.
    """
    classes = {row.path: row.class_name.rpartition(".")[2] for row in tree.rows if row.path}
    selection = selection_of(chosen, classes)
    rule = {
        "match": list(selection.match),
        **({"exclude": list(selection.exclude)} if selection.exclude else {}),
        **({"class": selection.class_} if selection.class_ else {}),
        "expect": len(chosen),
        "with": module,
    }
    _refuse_unknown(module)
    return write_recipe(Recipe.model_validate({"version": 1, "replace": [rule]}))


def _refuse_unknown(module: str) -> None:
    """Refuse what is no name in the catalogue, of a layer of torch's, or `package.module:Class`."""
    from modswap.nn import CATALOGUE
    from modswap.ops.build.fit import BARE

    if ":" not in module and module.lower() not in BARE and CATALOGUE.spelled(module) is None:
        what = f"no module {module!r:.80} in the catalogue"
        raise RecipeError(what, "with", CATALOGUE.advice(module))

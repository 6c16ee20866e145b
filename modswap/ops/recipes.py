"""Read recipes of the user, whose `verify.skip` may name the examinations that there are."""

from pathlib import Path

from modswap.core.asked.recipe import Recipe
from modswap.core.asked.source import COMMAND_LINE, RuleText
from modswap.io.recipe import reader
from modswap.ops.examine.table import examination_names


def read_recipe(source: str | Path) -> Recipe:
    """Return the recipe of a file.

    Args:
        source: A file name, or `-` for standard input.

    Raises:
        CheckpointError: If the file cannot be read.
        RecipeError: If the recipe is wrong; all mistakes at once, in the order of their lines.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("swap.yaml").write_text("{version: 1, replace: [{match: head, with: ECA}]}")
        >>> modswap.read_recipe("swap.yaml").replace[0].match
        ('head',)
    """
    return reader.read_recipe(source, examination_names())


def recipe_of_options(rule: RuleText) -> Recipe:
    """Return the recipe that was made of options of the command line; errors name the options.

    Raises:
        RecipeError: If the recipe is wrong.
    """
    return reader.parse_recipe(rule.text, COMMAND_LINE, ".", examination_names(), rule.options)


def parse_recipe(text: str, name: str, folder: str) -> Recipe:
    """Return the recipe of a text.

    Args:
        text: YAML.
        name: Name of its file, for errors.
        folder: Folder against which the recipe's own file names are resolved.

    Raises:
        RecipeError: If the recipe is wrong; all mistakes at once, in the order of their lines.
    """
    return reader.parse_recipe(text, name, folder, examination_names())

"""Read a recipe that was found inside a file: it may ask for far less than a recipe of the user."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from modswap.core.asked.recipe import CallInput, Recipe, TensorInput
from modswap.core.errors import CheckpointError, RecipeError
from modswap.io.recipe.reader import parse_recipe

MAX_INPUT_ELEMENTS = 16 << 20  # of all tensors of a call
MAX_PASSES = 64
MAX_CALLS = 4  # that are run where nobody gave an input
MAX_PATTERN_CHARACTERS = 20_000  # of all patterns
_FIX = "apply the recipe yourself if you know that it is sound: modswap.apply_recipe"


def embedded_recipe(text: str, where: str) -> Recipe:
    """Return the recipe of a text that the file `where` holds.

    Raises:
        RecipeError: If it is no recipe.
        CheckpointError: If it has a regular expression, which may take any time, or asks for more
            patterns, passes or input elements than the recipe of a file may.
    """
    recipe = parse_recipe(text, f"{where}:recipe", ".")
    patterns = [name for _, rule in recipe.rules for name in (*rule.match, *rule.exclude)]
    sizes = len(recipe.verify.further_sizes) + 1
    passes = len(recipe.verify.modes) * len(recipe.verify.dtypes) * len(recipe.inputs) * sizes
    elements = max([0, *(_elements(entry, recipe) for entry in recipe.inputs)])
    flaws = {
        "it has a regular expression, which may take any time": any(
            name.startswith("re:") for name in patterns
        ),
        f"its patterns have over {MAX_PATTERN_CHARACTERS:,} characters": (
            sum(map(len, patterns)) > MAX_PATTERN_CHARACTERS
        ),
        f"it asks for {passes:,} passes, over {MAX_PASSES}": passes > MAX_PASSES,
        f"it asks for an input of {elements:,} elements, over {MAX_INPUT_ELEMENTS:,}": (
            elements > MAX_INPUT_ELEMENTS
        ),
    }
    if wrong := next((flaw for flaw, holds in flaws.items() if holds), ""):
        raise CheckpointError(f"the recipe inside is not carried out: {wrong}", where, _FIX)
    return recipe


def embedded_inputs(text: str, where: str) -> tuple[TensorInput | CallInput, ...]:
    """Return the first dummy inputs of a recipe inside a file; none of those that are too large.

    A text that is no recipe has none.
    """
    try:
        recipe = parse_recipe(text, f"{where}:recipe", ".")
    except RecipeError:
        return ()
    calls = recipe.inputs[:MAX_CALLS]
    total = sum(sum(map(prod, _shapes(entry))) for entry in calls)
    return calls if total <= MAX_INPUT_ELEMENTS else ()


def _elements(entry: TensorInput | CallInput, recipe: Recipe) -> int:
    """Return the most elements of a call's tensors, at any of the recipe's sizes."""
    shapes = list(_shapes(entry))
    areas = [None, *recipe.verify.further_sizes]
    return max(sum(prod(_resized(s, area)) for s in shapes) for area in areas)


def _resized(shape: tuple[int, ...], area: tuple[int, int] | None) -> tuple[int, ...]:
    return shape if area is None or len(shape) != 4 else (*shape[:2], *area)


def _shapes(value: Any) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of the tensors that an entry of `inputs` describes, at any depth."""
    if isinstance(value, TensorInput):
        yield value.shape
    elif isinstance(value, CallInput):
        yield from _shapes([*value.args, value.kwargs])
    elif isinstance(value, Mapping):
        if "shape" in value:
            yield TensorInput.model_validate(dict(value)).shape
        else:
            yield from _shapes(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _shapes(item)

"""Recipes: YAML in, a checked `Recipe` out, with file, line and column in every error."""

import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from modswap.core.code import split_reference
from modswap.core.conditions import check_condition
from modswap.core.errors import CheckpointError, RecipeError, together
from modswap.core.nearest import file_near
from modswap.core.patterns import check_pattern
from modswap.core.recipe import CallInput, Place, Recipe, Source, TensorInput
from modswap.io.recipe_errors import sentences
from modswap.io.recipe_nodes import EXAMPLE, MOST_BYTES, read_document


def read_recipe(source: str | Path) -> Recipe:
    """Return the recipe of a file.

    Args:
        source: A file name, or `-` for standard input.

    Raises:
        CheckpointError: If the file cannot be read.
        RecipeError: If the recipe is wrong; all mistakes at once, in the order of their lines.
    """
    if str(source) == "-":
        return parse_recipe(sys.stdin.read(MOST_BYTES + 1), "<stdin>", ".")
    file = Path(source)
    return parse_recipe(_text(file), str(source), str(file.parent))


def _text(file: Path) -> str:
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise CheckpointError(f"it is {kind}, expected a recipe", str(file), "name a YAML file")
        with file.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        fix = file_near(file) or "check the name; `modswap init` writes one"
        raise CheckpointError("no such recipe", str(file), fix) from None
    except UnicodeDecodeError as error:
        what = f"it is no text: byte {error.start} is not UTF-8"
        raise RecipeError(what, str(file), "save it as UTF-8, or name the recipe") from None
    except OSError as error:
        what = f"it cannot be read: {error.strerror}"
        raise CheckpointError(what, str(file), "check its permissions") from None


def parse_recipe(text: str, name: str, folder: str) -> Recipe:
    """Return the recipe of a text.

    Args:
        text: YAML.
        name: Name of its file, for errors.
        folder: Folder against which the recipe's own file names are resolved.

    Raises:
        RecipeError: If the recipe is wrong; all mistakes at once, in the order of their lines.
    """
    document = read_document(text, name)
    source = Source(name, text, document.lines, folder)
    if not isinstance(document.data, dict):
        kind = "a list" if isinstance(document.data, list) else f"{document.data!r:.40}"
        raise RecipeError(f"it holds {kind}, expected a mapping", source.at(), EXAMPLE)
    errors = list(document.errors)
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(document.data).read_from(source)
    except ValidationError as error:
        errors += sentences(error, document.data, source)
    errors += _beyond_types(document.data, source)
    if errors or recipe is None:
        raise together(sorted(errors, key=_by_line))
    return recipe


def _by_line(error: RecipeError) -> tuple[int, ...]:
    numbers = error.where.rsplit(":", 2)[1:]
    return tuple(int(number) for number in numbers if number.isdigit())


def _beyond_types(data: Any, source: Source) -> Iterator[RecipeError]:
    """Yield what types alone do not show: bad patterns, comparisons, references, nested tensors."""
    rules = data.get("replace")
    for index, rule in enumerate(rules if isinstance(rules, list) else []):
        if isinstance(rule, dict):
            yield from _of_rule(rule, ("replace", index), source)
    model = data.get("model")
    if isinstance(model, dict) and isinstance(model.get("factory"), str):
        where = source.at("model", "factory")
        yield from _raised(split_reference, model["factory"], where)
    inputs = data.get("inputs")
    for index, entry in enumerate(inputs if isinstance(inputs, list) else []):
        if isinstance(entry, dict):
            for key in CallInput.model_fields:
                yield from _nested(entry.get(key), ("inputs", index, key), source)


def _of_rule(rule: dict[str, Any], place: Place, source: Source) -> Iterator[RecipeError]:
    for key in ("match", "exclude"):
        patterns = rule.get(key)
        listed = patterns if isinstance(patterns, list) else [patterns]
        for index, pattern in enumerate(listed):
            if isinstance(pattern, str):
                where = source.at(*place, key, *([index] if patterns is listed else []))
                yield from _raised(check_pattern, pattern, where)
    conditions = rule.get("where")
    for key, condition in (conditions if isinstance(conditions, dict) else {}).items():
        if isinstance(condition, (str, int)) and not isinstance(condition, bool):
            try:
                check_condition(condition)
            except ValueError as error:
                where = source.at(*place, "where", key)
                yield RecipeError(f"{key!r}: {error}", where, "correct it")


def _raised(check: Any, value: str, where: str) -> Iterator[RecipeError]:
    try:
        check(value, where)
    except RecipeError as error:
        yield error


def _nested(value: Any, place: Place, source: Source) -> Iterator[RecipeError]:
    """Yield what is wrong with the tensors inside `args` and `kwargs`."""
    if isinstance(value, dict) and "shape" in value:
        try:
            TensorInput.model_validate(value)
        except ValidationError as error:
            moved = Source(source.name, source.text, _moved(source, place), source.folder)
            yield from sentences(error, value, moved, TensorInput)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nested(item, (*place, key), source)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nested(item, (*place, index), source)


def _moved(source: Source, place: Place) -> dict[Place, tuple[int, int]]:
    """Return the lines below a place, as if it were the top."""
    depth = len(place)
    below = {key[depth:]: line for key, line in source.lines.items() if key[:depth] == place}
    return below or {(): (1, 1)}


def write_recipe(recipe: Recipe) -> str:
    """Return a recipe as YAML that reads back equal; what is left at its default is left out."""
    data = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    return text

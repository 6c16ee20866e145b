"""Read and write recipes; every error has file, line and column."""

import os
import re
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError

from modswap.core.asked.import_name import factory_call
from modswap.core.asked.patterns import MAX_PATTERN_CHARACTERS, compile_pattern
from modswap.core.asked.permissions import permission_flaw
from modswap.core.asked.recipe import CallInput, Recipe, TensorInput
from modswap.core.asked.source import Place, Source
from modswap.core.errors import CheckpointError, RecipeError, together
from modswap.core.seen.joint import PLACES
from modswap.core.words.nearest import file_near
from modswap.io.recipe.errors import MAX_MISTAKES, sentences
from modswap.io.recipe.nodes import EXAMPLE, EXPONENT, MAX_CHARACTERS, read_document, shown
from modswap.io.recognise.look import unreadable

_MAX_PATTERN_CHARACTERS = 200_000  # of all patterns, with every brace expanded


def read_recipe(source: str | Path, examinations: Collection[str] | None = None) -> Recipe:
    """Return the recipe of a file, or of standard input for `-`.

    A pipe is read where it was handed over open, as by `-c <(command)`; any other is refused, since
    nothing might ever come out of it.

    `examinations` are the names that `verify.skip` takes; None to accept any.

    Raises:
        CheckpointError: If the file cannot be read.
        RecipeError: If the recipe is wrong; it carries all mistakes in the order of their lines.
    """
    typed = str(source) == "-"
    name, file = "<stdin>" if typed else str(source), Path(source)
    folder = str(file.parent)
    try:
        if typed:
            text = sys.stdin.read(MAX_CHARACTERS + 1)
        elif (descriptor := _pipe(str(source))) is not None:
            text, folder = _text_of_pipe(descriptor), "."
        else:
            text = _text(file)
    except UnicodeDecodeError as error:
        what = f"it is not text: byte {error.start} is not UTF-8"
        raise RecipeError(what, name, "save it as UTF-8, or name the recipe") from None
    return parse_recipe(text, name, folder, examinations)


def _pipe(name: str) -> int | None:
    """Return the descriptor of an open pipe by a name such as `/dev/fd/63`; None for others."""
    found = re.fullmatch(r"/(?:dev|proc/self)/(?:fd/([0-9]{1,6})|stdin)", name)
    if found is None:
        return None
    descriptor = int(found[1] or 0)
    try:
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except OSError:
        return None  # it is not open: whoever opens the name says so


def _text_of_pipe(descriptor: int) -> str:
    """Return the text that comes out of a pipe, up to a bound; the pipe stays open."""
    data = b""
    while len(data) <= MAX_CHARACTERS and (block := os.read(descriptor, 1 << 16)):
        data += block
    return data.decode("utf-8-sig")


def _text(file: Path) -> str:
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise CheckpointError(f"it is {kind}, expected a recipe", str(file), "name a YAML file")
        with file.open("rb") as stream:
            raw = stream.read(MAX_CHARACTERS + 1)
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        fix = file_near(file) or "check the name; `modswap init` writes one"
        raise CheckpointError("no such recipe", str(file), fix) from None
    except OSError as error:
        raise unreadable(file, error) from None


def parse_recipe(
    text: str,
    name: str,
    folder: str,
    examinations: Collection[str] | None = None,
    options: Mapping[Place, str] = MappingProxyType({}),
) -> Recipe:
    """Return the recipe of a YAML text; its own file names are resolved against a folder.

    `name` is that of its file, for errors. `examinations` are the names that `verify.skip` takes;
    None to accept any. `options` are those of the command line that gave the keys, if any did.

    Raises:
        RecipeError: If the recipe is wrong; it carries all mistakes in the order of their lines.
    """
    document = read_document(text, name)
    source = Source(name, text, document.lines, folder, options)
    if not isinstance(document.data, dict):
        kind = "a list" if isinstance(document.data, list) else shown(document.data)
        raise RecipeError(f"it holds {kind}, expected a mapping", source.at(), EXAMPLE)
    errors = document.errors
    recipe: Recipe | None = None
    try:
        context = {"examinations": examinations}
        recipe = Recipe.model_validate(document.data, context=context).read_from(source)
    except ValidationError as error:
        errors = {**sentences(error, document.data, source), **errors}
    # a value of the wrong type is reported once
    beyond = (found for found in _beyond_types(document.data, source) if found[0] not in errors)
    errors = {**errors, **dict(islice(beyond, MAX_MISTAKES + 1))}
    if errors or recipe is None:
        raise together(_first(sorted(errors.values(), key=_by_line)))
    return recipe


def _first(errors: list[RecipeError]) -> list[RecipeError]:
    if len(errors) <= MAX_MISTAKES:
        return errors
    more = RecipeError("more mistakes follow", errors[MAX_MISTAKES].where, "correct these first")
    return [*errors[:MAX_MISTAKES], more]


def _by_line(error: RecipeError) -> tuple[int, ...]:
    numbers = error.where.rsplit(":", 2)[1:]
    return tuple(int(number) for number in numbers if number.isdigit())


def _beyond_types(data: Any, source: Source) -> Iterator[tuple[Place, RecipeError]]:
    """Yield the mistakes that types do not show: bad patterns and references, nested tensors."""
    yield from _of_patterns(data, source)
    yield from _of_permissions(data.get("allow"), source)
    model = data.get("model")
    if isinstance(model, dict) and isinstance(model.get("factory"), str):
        try:
            factory_call(model["factory"], source.at("model", "factory"), RecipeError)
        except RecipeError as error:
            yield ("model", "factory"), error
    for index, entry in enumerate(_list(data.get("inputs"))):
        if isinstance(entry, dict):
            for key in CallInput.model_fields:
                yield from _nested(entry.get(key), ("inputs", index, key), source)


def _of_patterns(data: dict[str, Any], source: Source) -> Iterator[tuple[Place, RecipeError]]:
    room = _MAX_PATTERN_CHARACTERS
    for place, pattern in _patterns(data):
        try:
            room -= len(compile_pattern(pattern, source.at(*place)).regex.pattern)
        except RecipeError as error:
            yield place, error
        if room < 0:
            what = "the patterns up to here stand for too much"
            yield place, RecipeError(what, source.at(*place), "write fewer braces, or use `*`")
            break


def _of_permissions(value: Any, source: Source) -> Iterator[tuple[Place, RecipeError]]:
    entries: list[tuple[Place, Any]] = [
        (("allow", index), item) for index, item in enumerate(_list(value))
    ]
    for place, entry in entries or [(("allow",), value)]:
        if isinstance(entry, str) and (flaw := permission_flaw(entry)):
            yield place, RecipeError(flaw[0], source.at(*place), flaw[1])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _patterns(data: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield the patterns of all rules that are short enough to be compiled."""
    rules = [
        (part, number, rule)
        for part in ("replace", "insert")
        for number, rule in enumerate(_list(data.get(part)))
        if isinstance(rule, dict)
    ]
    for part, number, rule in rules:
        for key in ("match", *PLACES, "exclude"):
            place: Place = (part, number, key)
            value = rule.get(key)  # a list of patterns, or a single one
            found = [((*place, index), item) for index, item in enumerate(_list(value))]
            for at, pattern in found or [(place, value)]:
                if isinstance(pattern, str) and len(pattern) <= MAX_PATTERN_CHARACTERS:
                    yield at, pattern


def _nested(value: Any, place: Place, source: Source) -> Iterator[tuple[Place, RecipeError]]:
    """Yield the mistakes in the tensors inside `args` and `kwargs`."""
    if isinstance(value, dict) and "shape" in value:
        try:
            TensorInput.model_validate(value)
        except ValidationError as error:
            yield from sentences(error, value, source, TensorInput, place).items()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nested(item, (*place, key), source)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nested(item, (*place, index), source)


def write_recipe(recipe: Recipe) -> str:
    """Return a recipe as YAML that reads back equal; values at their defaults are left out."""
    # not in JSON mode, which has no infinity
    data = _lists(recipe.model_dump(by_alias=True, exclude_defaults=True))
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    if re.search("[\x85\u2028\u2029]", text):
        # quotes do not keep these line breaks of Unicode, escapes do
        text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=100)
    return text


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "'" if EXPONENT.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


class _Dumper(yaml.SafeDumper):
    """The dumper of PyYAML, which also quotes text that looks like a mistyped number."""

    yaml_representers: ClassVar[dict[Any, Any]] = yaml.SafeDumper.yaml_representers | {str: _quoted}


def _lists(value: Any) -> Any:
    """Return plain data with a list for every tuple."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value

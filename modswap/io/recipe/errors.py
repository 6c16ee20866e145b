"""What pydantic finds wrong with a recipe, in sentences with a place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modswap.core.asked.recipe import (
    KINDS,
    CallInput,
    Conditions,
    Integers,
    Limits,
    ModelSource,
    Place,
    Recipe,
    Rule,
    Source,
    TensorInput,
    Verify,
)
from modswap.core.errors import RecipeError
from modswap.core.words.nearest import did_you_mean
from modswap.io.recipe.nodes import EXPONENT, shown, with_point

MOST = 100  # mistakes that are told at once

_PARTS: dict[str, type[BaseModel]] = {
    "replace": Rule,
    "where": Conditions,
    "verify": Verify,
    "limits": Limits,
    "model": ModelSource,
    "fill": Integers,
}
_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
}
_LONGEST = 80  # characters of a name for which a near one is looked for


def sentences(
    error: ValidationError,
    data: Any,
    source: Source,
    part: type[BaseModel] = Recipe,
    base: Place = (),
) -> dict[Place, RecipeError]:
    """Return one error per mistake, by its place in the recipe; of very many the first in line.

    Args:
        error: What pydantic found.
        data: What was read.
        source: For the places.
        part: What the data is a part of.
        base: Place of the data in the recipe.
    """
    details: dict[Place, ErrorDetails] = {}
    for detail in error.errors(include_url=False):
        details.setdefault(_place(detail, data), detail)
    above = {place[:end] for place in details for end in range(len(place))}
    kept = [
        (place, detail)
        for place, detail in details.items()
        # a list that is said to be too short because its items are wrong
        if not (detail["type"] == "too_short" and place in above)
    ]
    kept.sort(key=lambda one: source.line(*base, *one[0]))
    telling = _Telling(data, source, part, base)
    return {(*base, *place): telling.sentence(detail, place) for place, detail in kept[: MOST + 1]}


def _place(detail: ErrorDetails, data: Any) -> Place:
    """Return an error's place in the data, without what pydantic puts between."""
    place: list[str | int] = []
    current = data
    labelled = False
    for part in detail["loc"]:
        kinds = place[-1:] == ["fill"] or (place[:1] == ["inputs"] and len(place) == 2)
        if part in KINDS and kinds and not labelled:
            labelled = True
            continue
        inside = isinstance(current, Mapping) and part in current
        counted = isinstance(current, list) and isinstance(part, int) and part < len(current)
        if inside or counted:
            place.append(part)
            current = current[part]
            labelled = False
    if detail["type"] == "missing" and isinstance(current, Mapping):
        place.append(detail["loc"][-1])
    return tuple(place)


def _at(data: Any, place: Sequence[str | int]) -> Any:
    for part in place:
        data = data.get(part) if isinstance(data, Mapping) else data[part]
    return data


@dataclass(frozen=True, slots=True)
class _Telling:
    """What a sentence needs to know besides the mistake."""

    data: Any
    source: Source
    part: type[BaseModel]
    base: Place

    def sentence(self, detail: ErrorDetails, place: Place) -> RecipeError:
        """Return one mistake with its place and what to do."""
        name = str(place[-1])
        where = self.source.at(*self.base, *place)
        given = _at(self.data, place)
        match detail["type"]:
            case "missing" if not isinstance(given, list):
                where = self.source.at(*self.base, *place[:-1])
                owner = _owner((*self.base, *place[:-1]))
                return RecipeError(f"{owner} needs {name!r}", where, f"add `{name}: …`")
            case "extra_forbidden":
                keys = list(_keys(place[:-1], self.data, self.part))
                near = _near(name, keys) or f"known here: {', '.join(keys)}"
                return RecipeError(f"unknown key {shown(name)}", where, near)
        value = "empty" if given is None else shown(given)
        what = f"{_named(place)} is {value}, expected {_expected(detail)}"
        return RecipeError(what, where, _fix(detail, given))


def _near(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known) if len(name) <= _LONGEST else ""


def _named(place: Place) -> str:
    last = place[-1]
    if isinstance(last, int):
        return f"item {last + 1} of {_named(place[:-1])}"
    return shown(last)


def _owner(place: Place) -> str:
    if not place:
        return "the recipe"
    return "the rule" if place[0] == "replace" and len(place) == 2 else _named(place)


def _keys(place: Place, data: Any, part: type[BaseModel]) -> Iterator[str]:
    """Yield the keys that are known at a place."""
    model = part
    names = [part for part in place if isinstance(part, str)]
    if names[:1] == ["inputs"] and "fill" not in names:
        entry = _at(data, place[:2])
        many = isinstance(entry, Mapping) and bool({"args", "kwargs"} & entry.keys())
        model = CallInput if many else TensorInput
    elif names:
        model = _PARTS.get(names[-1], Recipe)
    for name, field in model.model_fields.items():
        yield field.alias or name


# what is asked for, by pydantic's kind of error; the braces are filled from its context
_BOUNDS = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number below {lt}",
    "too_short": "at least {min_length}",
    "string_too_short": "at least {min_length} characters",
    "too_long": "at most {max_length} values",
    "value_error": "that {error}",
    "missing": "more values",
    "string_too_long": "at most {max_length:,} characters",
    "string_pattern_mismatch": "text without a NUL character",
    "comparison": "a number, or a comparison such as '>=128' or '64..256'",
}


def _expected(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**context)
    return _TYPES.get(kind, str(detail["msg"]).lower())


def _fix(detail: ErrorDetails, given: Any) -> str:
    whole = _TYPES.get(detail["type"]) == "a whole number"
    if isinstance(given, str) and EXPONENT.fullmatch(given[:_LONGEST]):
        return f"YAML reads it as text: write {with_point(given)}"
    if whole and isinstance(given, str) and given[:_LONGEST].isdecimal():
        return "take the quotes off"
    if whole and isinstance(given, float) and given.is_integer() and abs(given) < 2**53:
        return f"write {int(given)}"
    if isinstance(given, bool) and detail["type"] == "string_type":
        return "YAML reads on, off, yes and no as true and false: quote it"
    if detail["type"] == "literal_error" and isinstance(given, str):
        known = re.findall(r"'([^']+)'", str(detail.get("ctx", {}).get("expected", "")))
        return _near(given, known) or "choose one of them"
    return "correct it"

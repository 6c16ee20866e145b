"""What pydantic finds wrong with a recipe, in sentences with a place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modswap.core.errors import RecipeError
from modswap.core.nearest import did_you_mean
from modswap.core.recipe import (
    CallInput,
    Conditions,
    Integers,
    ModelSource,
    Place,
    Recipe,
    Rule,
    Source,
    TensorInput,
    Verify,
)

_PARTS: dict[str, type[BaseModel]] = {
    "replace": Rule,
    "where": Conditions,
    "verify": Verify,
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
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def sentences(
    error: ValidationError, data: Any, source: Source, part: type[BaseModel] = Recipe
) -> list[RecipeError]:
    """Return one error per mistake.

    Args:
        error: What pydantic found.
        data: What was read.
        source: For the places.
        part: What the data is a part of.
    """
    found: dict[Place, RecipeError] = {}
    places: set[Place] = set()
    for detail in error.errors():
        place = _place(detail, data)
        if _other_branch(detail, data):
            continue
        places.add(place)
        found.setdefault(place, _sentence(detail, place, data, source, part))
    # a list that is said to be too short because its items are wrong
    return [one for place, one in found.items() if not _only_follows(place, places, one)]


def _only_follows(place: Place, places: set[Place], one: RecipeError) -> bool:
    deeper = any(other[: len(place)] == place and len(other) > len(place) for other in places)
    return deeper and "expected at least" in one.what


def _place(detail: ErrorDetails, data: Any) -> Place:
    """Return an error's place in the data, without the names that pydantic puts between."""
    place: list[str | int] = []
    current = data
    for part in detail["loc"]:
        inside = isinstance(current, Mapping) and part in current
        counted = isinstance(current, list) and isinstance(part, int) and part < len(current)
        if inside or counted:
            place.append(part)
            current = current[part]
    if detail["type"] == "missing" and isinstance(current, Mapping):
        place.append(detail["loc"][-1])
    return tuple(place)


def _other_branch(detail: ErrorDetails, data: Any) -> bool:
    """Return whether an error is of the branch of a union that was not meant."""
    loc = detail["loc"]
    if len(loc) > 2 and loc[0] == "inputs" and isinstance(loc[1], int):
        entry = data["inputs"][loc[1]]
        many = isinstance(entry, Mapping) and bool({"args", "kwargs"} & entry.keys())
        meant = CallInput if many else TensorInput
        if loc[2] != meant.__name__:
            return True
    if "fill" in loc:
        place = _place(detail, data)
        entry = _at(data, place[: place.index("fill") + 1])
        # the tag of the branch stands behind the key
        tag = str(loc[loc.index("fill") + 1]) if loc[-1] != "fill" else ""
        return isinstance(entry, Mapping) != ("Integers" in tag)
    return False


def _at(data: Any, place: Sequence[str | int]) -> Any:
    for part in place:
        data = data.get(part) if isinstance(data, Mapping) else data[part]
    return data


def _sentence(
    detail: ErrorDetails, place: Place, data: Any, source: Source, part: type[BaseModel]
) -> RecipeError:
    name = str(place[-1])
    match detail["type"]:
        case "missing" if not isinstance(_at(data, place), list):
            known = f"add `{name}: …`"
            return RecipeError(
                f"{_owner(place[:-1])} needs {name!r}", source.at(*place[:-1]), known
            )
        case "extra_forbidden":
            keys = list(_keys(place[:-1], data, part))
            near = did_you_mean(name, keys) or f"known here: {', '.join(keys)}"
            return RecipeError(f"unknown key {name!r}", source.at(*place), near)
    given = _at(data, place)
    shown = "empty" if given is None else f"{given!r:.60}"
    what = f"{_named(place)} is {shown}, expected {_expected(detail)}"
    return RecipeError(what, source.at(*place), _fix(detail, given))


def _named(place: Place) -> str:
    last = place[-1]
    if isinstance(last, int):
        return f"item {last + 1} of {place[-2]!r}"
    return repr(last)


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
}


def _expected(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**context)
    return _TYPES.get(kind, str(detail["msg"]).lower())


def _fix(detail: ErrorDetails, given: Any) -> str:
    if isinstance(given, str) and _EXPONENT.fullmatch(given):
        mantissa, _, exponent = given.lower().partition("e")
        point = mantissa if "." in mantissa else f"{mantissa}.0"
        sign = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f"YAML reads it as text: write {point}e{sign}"
    if isinstance(given, bool) and detail["type"] == "string_type":
        return "YAML reads on, off, yes and no as true and false: quote it"
    if detail["type"] == "literal_error" and isinstance(given, str):
        known = re.findall(r"'([^']+)'", str(detail.get("ctx", {}).get("expected", "")))
        return did_you_mean(given, known) or "choose one of them"
    return "correct it"

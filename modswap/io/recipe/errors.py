"""Turn the mistakes that pydantic finds in a recipe into errors with line and advice."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modswap.core.asked import recipe as recipes
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.rules.keys import Conditions
from modswap.core.asked.rules.rule import Rule
from modswap.core.asked.rules.starts import Donor, Init
from modswap.core.asked.source import Place, Source
from modswap.core.errors import RecipeError
from modswap.core.words.nearest import did_you_mean
from modswap.io.recipe.nodes import EXPONENT, shown, with_point

MAX_MISTAKES = 100  # in one report
_Model = type[BaseModel]

_PARTS: dict[str, _Model] = {
    "replace": Rule,
    "insert": Insert,
    "where": Conditions,
    "verify": recipes.Verify,
    "limits": recipes.Limits,
    "model": recipes.ModelSource,
    "fill": recipes.Integers,
    "donor": Donor,
    "init": Init,
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
_MAX_NAME_CHARACTERS = 80  # for longer names no similar one is searched


def sentences(
    error: ValidationError, data: Any, source: Source, part: _Model = Recipe, base: Place = ()
) -> dict[Place, RecipeError]:
    """Return one error for each mistake, by its place in the recipe, at most `MAX_MISTAKES` + 1.

    The data are those of a recipe, or of a part of it: of the model `part`, at the place `base`.
    """
    details: dict[Place, ErrorDetails] = {}
    for detail in error.errors(include_url=False):
        details.setdefault(_place(detail, data), detail)
    above = {place[:end] for place in details for end in range(len(place))}
    # pydantic calls a list too short if its items are wrong
    kept = [p for p, detail in details.items() if detail["type"] != "too_short" or p not in above]
    kept.sort(key=lambda place: source.line(*base, *place))
    return {
        (*base, *place): _sentence(details[place], place, data, source, part, base)
        for place in kept[: MAX_MISTAKES + 1]
    }


def _place(detail: ErrorDetails, data: Any) -> Place:
    """Return the place of a mistake in the data, without the labels that pydantic inserts."""
    place: list[str | int] = []
    current = data
    labelled = False
    for part in detail["loc"]:
        if not labelled and part in recipes.KINDS and _has_kinds(place):
            labelled = True
        elif _holds(current, part):
            place.append(part)
            current = current[part]
            labelled = False
    if detail["type"] == "missing" and isinstance(current, Mapping):
        place.append(detail["loc"][-1])
    return tuple(place)


def _has_kinds(place: Sequence[str | int]) -> bool:
    """Return whether values of several kinds are allowed at a place; pydantic labels the kind."""
    entry = (place[:1] == ["inputs"] and len(place) == 2) or place[-2:-1] == ["sizes"]
    return entry or place[-1:] == ["fill"] or place[-1:] == ["sizes"]


def _holds(value: Any, key: str | int) -> bool:
    if isinstance(value, Mapping):
        return key in value
    return isinstance(value, list) and isinstance(key, int) and key < len(value)


def _at(data: Any, place: Sequence[str | int]) -> Any:
    for part in place:
        data = data.get(part) if isinstance(data, Mapping) else data[part]
    return data


def _sentence(
    detail: ErrorDetails, place: Place, data: Any, source: Source, part: _Model, base: Place
) -> RecipeError:
    """Return the error for a mistake, with its place and advice."""
    if not place:
        at = source.at(*base)
        return RecipeError(f"{_owner(base)} needs {detail['msg']}", at, "add `replace: …`")
    name, where, given = str(place[-1]), source.at(*base, *place), _at(data, place)
    match detail["type"]:
        case "missing" if not isinstance(given, list):
            owner = (*base, *place[:-1])
            what = f"{_owner(owner)} needs {name!r}"
            return RecipeError(what, source.at(*owner), f"add `{name}: …`")
        case "extra_forbidden":
            keys = list(_keys(place[:-1], data, part))
            near = _elsewhere(name) or _near(name, keys) or f"known here: {', '.join(keys)}"
            return RecipeError(f"unknown key {shown(name)}", where, near)
    value = "empty" if given is None else shown(given)
    what = f"{_named(place)} is {value}, expected {_expected(detail)}"
    return RecipeError(what, where, _fix(detail, given))


def _elsewhere(name: str) -> str:
    """Return where a key belongs that has its place in another part of a recipe, or nothing."""
    parts: dict[str, _Model] = {"verify": recipes.Verify, "verify.limits": recipes.Limits}
    parts |= {"a rule": Rule, "an insertion": Insert, "the recipe itself": Recipe}
    owners = [owner for owner, other in parts.items() if name in _names(other)]
    return f"`{name}` is a key of {' or '.join(owners)}" if owners else ""


def _near(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known) if len(name) <= _MAX_NAME_CHARACTERS else ""


def _named(place: Place) -> str:
    last = place[-1]
    if isinstance(last, int):
        return f"item {last + 1} of {_named(place[:-1])}"
    return shown(last)


def _owner(place: Place) -> str:
    if not place:
        return "the recipe"
    return "the rule" if place[0] in {"replace", "insert"} and len(place) == 2 else _named(place)


def _keys(place: Place, data: Any, part: _Model) -> Iterator[str]:
    """Yield the valid keys at a place."""
    model = part
    names = [name for name in place if isinstance(name, str)]
    if names[:1] == ["inputs"] and "fill" not in names:
        entry = _at(data, place[:2])
        many = isinstance(entry, Mapping) and bool({"args", "kwargs"} & entry.keys())
        model = recipes.CallInput if many else recipes.TensorInput
    elif names:
        model = _PARTS.get(names[-1], Recipe)
    yield from _names(model)


def _names(model: _Model) -> Iterator[str]:
    return (field.alias or name for name, field in model.model_fields.items())


# the expected value for each of pydantic's kinds of error; its context fills the braces
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
    """Return the advice for a mistake."""
    whole = _TYPES.get(detail["type"]) == "a whole number"
    if isinstance(given, str):
        return _fix_of_text(detail, given, whole=whole)
    if whole and isinstance(given, float) and given.is_integer() and abs(given) < 2**53:
        return f"write {int(given)}"
    if isinstance(given, bool) and detail["type"] == "string_type":
        return "YAML reads on, off, yes and no as true and false: quote it"
    return "correct it"


def _fix_of_text(detail: ErrorDetails, given: str, *, whole: bool) -> str:
    if EXPONENT.fullmatch(given[:_MAX_NAME_CHARACTERS]):
        return f"YAML reads it as text: write {with_point(given)}"
    if whole and given[:_MAX_NAME_CHARACTERS].isdecimal():
        return "take the quotes off"
    if detail["type"] == "literal_error":
        known = re.findall(r"'([^']+)'", str(detail.get("ctx", {}).get("expected", "")))
        return _near(given, known) or "choose one of them"
    return "correct it"

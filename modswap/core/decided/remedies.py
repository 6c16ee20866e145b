"""Small changes to a recipe that could mend a failed check; each has to be checked before use.

Errors carry settings that could mend them, such as `("topk", 4)`; edits are made of these.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from modswap.core.asked.patterns import compile_pattern
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.rules.rule import Rule
from modswap.core.asked.source import Place
from modswap.core.errors import MatchError, ModswapError, RecipeError, ShapeError
from modswap.core.finding import HERE
from modswap.core.words.nearest import ALIKE_RATIO
from modswap.core.words.option_spelling import is_option

_LISTS = (("replace",), ("insert",))
MENDED = (MatchError, RecipeError, ShapeError)
_KEYS = frozenset(field.alias or name for name, field in Rule.model_fields.items())
_PLAIN = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class Edit:
    """A key of a recipe, and its new value."""

    place: Place  # the keys and positions that lead to it
    value: str  # the value, as JSON, so that edits can be compared

    @property
    def words(self) -> str:
        """Return the edit as a line of the recipe, `adapt: true`."""
        key = next(part for part in reversed(self.place) if isinstance(part, str))
        return f"{key}: {self.written}"

    @property
    def option(self) -> str:
        """Return the edit as an option of the command line, `--adapt` or `--set topk=4`.

        It is empty for a key that has none.
        """
        key = next(part for part in reversed(self.place) if isinstance(part, str))
        value = json.loads(self.value)
        if "args" in self.place:
            return f"--set {key}={self.written}"
        if not is_option(key):
            return ""
        if isinstance(value, list):
            return f"--{key} {_scalar(value[-1])}"  # the others are there
        return f"--{key}" if value is True else f"--{key} {self.written}"

    @property
    def written(self) -> str:
        """Return the value as YAML."""
        value = json.loads(self.value)
        if isinstance(value, list):
            return f"[{', '.join(map(_scalar, value))}]"
        return _scalar(value)


def _scalar(value: Any) -> str:
    # JSON is YAML; a name reads better without quotes
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and not value[0].isdigit()
    return value if plain else json.dumps(value, ensure_ascii=False)


def candidates(error: ModswapError, recipe: Recipe) -> tuple[Edit, ...]:
    """Return changes that could mend an error and those that came with it, likely ones first."""
    found: dict[Edit, None] = {}
    for one in error.all:
        if isinstance(one, MENDED):
            for place in _places(one, recipe):
                found |= dict.fromkeys(_of_rule(one, place, recipe))
    return tuple(edit for edit in found if _mends(edit, _value(recipe, edit.place)))


def _mends(edit: Edit, present: Any) -> bool:
    """Return whether an edit changes the recipe, and does not change which modules are meant.

    In `match` only a misspelt path is corrected, and the `re:` of a regular expression added.
    """
    value = json.loads(edit.value)
    if edit.place[2:3] == ("match",) and value != f"re:{present}":
        plain = isinstance(present, str) and not set("*?[{") & set(present)
        return plain and SequenceMatcher(None, present, str(value)).ratio() >= ALIKE_RATIO
    return bool(value != present)


def _places(error: ModswapError, recipe: Recipe) -> list[Place]:
    """Return the rules, or keys of them, that an error is about."""
    for place in recipe.source.lines:
        if place[:1] in _LISTS and len(place) > 1 and recipe.at(*place) == error.where:
            return [max(_same(place, recipe), key=len)]
    concerned = [place for place, rule in recipe.rules if _selects(rule, error.where)]
    return concerned or [place for place, _ in recipe.rules]


def _same(place: Place, recipe: Recipe) -> list[Place]:
    """Return all places of the same line and column: a rule and its first key."""
    lines = recipe.source.lines
    return [other for other in lines if lines[other] == lines[place]]


def _selects(rule: Rule | Insert, path: str) -> bool:
    return any(compile_pattern(pattern).matches(path) for pattern in rule.match)


def _of_rule(error: ModswapError, place: Place, recipe: Recipe) -> Iterator[Edit]:
    """Yield the settings of an error as edits of the rule that it is about."""
    own = place[:2]
    rule = dict(recipe.rules)[own]
    for key, value in error.settings:
        if key == HERE and len(place) > 2:
            yield _edit(place, value)
        elif key == "exclude" and _PLAIN.fullmatch(value):
            yield _edit((*own, key), [*rule.exclude, value])
        elif key not in {HERE, "exclude"} and (key != "wants" or ":" in rule.with_):
            yield _edit(_key(own, key), value)


def _edit(place: Place, value: Any) -> Edit:
    return Edit(place, json.dumps(value))


def _key(rule: Place, name: str) -> Place:
    return (*rule, name) if name in _KEYS else (*rule, "args", name)


def _value(recipe: Recipe, place: Place) -> Any:
    """Return the value at a place of a recipe; None if there is none."""
    value: Any = recipe.model_dump(mode="json", by_alias=True)
    for part in place:
        value = value.get(part) if isinstance(value, dict) else value[part]
    return value[0] if isinstance(value, list) and len(value) == 1 else value

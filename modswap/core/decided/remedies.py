"""Which small changes to a recipe could mend what failed; each has to be checked to be told.

Errors say what to do in words of a fixed form, whoever raises them: "set `adapt: true` in its
rule", "set `topk: 4` or less", "leave `dim` out", "did you mean 'stem'?". Candidates are read from
these.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from modswap.core.asked.patterns import compile_pattern
from modswap.core.asked.recipe import Place, Recipe, Rule
from modswap.core.errors import MatchError, ModswapError, RecipeError, ShapeError
from modswap.core.seen.site import LAYOUTS

MENDED = (MatchError, RecipeError, ShapeError)
_KEYS = frozenset(field.alias or name for name, field in Rule.model_fields.items())
_SET, _OPEN = re.compile(r"`(\w+): ([^`]+)`"), re.compile(r"(?:`(layout|wants):`|its (layout))")
_OUT = re.compile(r"leave `(\w+)` out")
_NEAR = re.compile(r"did you mean ([^?]*)\?")
_COUNT, _QUOTED = re.compile(r"(\d+) modules? match"), re.compile(r"'([^']+)'")
_CLASS = re.compile(r"set `class` to (\S+)")
_NEVER = ("never calls it", "is now called 0 times")
_PLAIN = re.compile(r"[\w.-]+")
ALIKE = 0.8  # of two names, one of which is the other mistyped
_SCALARS: Mapping[str, Any] = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Edit:
    """A key of a recipe with the value that it is to have.

    Args:
        place: Where: the keys and positions that lead to it.
        value: The value, as JSON; so that it can be told from others by what it says.
    """

    place: Place
    value: str

    @property
    def words(self) -> str:
        """Return it as a line of the recipe, `adapt: true`."""
        key = next(part for part in reversed(self.place) if isinstance(part, str))
        return f"{key}: {self.written}"

    @property
    def written(self) -> str:
        """Return the value as YAML."""
        value = json.loads(self.value)
        if isinstance(value, list):
            return f"[{', '.join(map(_scalar, value))}]"
        return _scalar(value)


def _scalar(value: Any) -> str:
    # JSON is YAML; a name stands better without quotes
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and not value[0].isdigit()
    return value if plain else json.dumps(value, ensure_ascii=False)


def candidates(error: ModswapError, recipe: Recipe) -> tuple[Edit, ...]:
    """Return the changes that could mend an error and those that came with it, likely ones first.

    Args:
        error: What failed.
        recipe: By which it failed.
    """
    found: dict[Edit, None] = {}
    for one in error.all:
        if isinstance(one, MENDED):
            for place in _places(one, recipe):
                found |= dict.fromkeys(_of_rule(one, place, recipe))
    return tuple(edit for edit in found if _mends(edit, _value(recipe, edit.place)))


def _mends(edit: Edit, present: Any) -> bool:
    """Return whether an edit changes anything, and leaves it to the user which modules are meant.

    `expect` is the user's own guard; in `match` only a slip of the pen is corrected.
    """
    value = json.loads(edit.value)
    if edit.place[2:3] == ("expect",):
        return False
    if edit.place[2:3] == ("match",):
        plain = isinstance(present, str) and not set("*?[{") & set(present)
        return plain and SequenceMatcher(None, present, str(value)).ratio() >= ALIKE
    return bool(value != present)


def _places(error: ModswapError, recipe: Recipe) -> list[Place]:
    """Return the rules, or keys of them, that an error is about."""
    for place in recipe.source.lines:
        if place[:1] == ("replace",) and len(place) > 1 and recipe.at(*place) == error.where:
            return [max(_same(place, recipe), key=len)]
    rules = range(len(recipe.replace))
    concerned = [index for index in rules if _selects(recipe.replace[index], error.where)]
    return [("replace", index) for index in concerned or rules]


def _same(place: Place, recipe: Recipe) -> list[Place]:
    """Return all places that stand where this one does: a rule and its first key."""
    lines = recipe.source.lines
    return [other for other in lines if lines[other] == lines[place]]


def _selects(rule: Rule, path: str) -> bool:
    return any(compile_pattern(pattern).matches(path) for pattern in rule.match)


def _of_rule(error: ModswapError, place: Place, recipe: Recipe) -> Iterator[Edit]:
    index = int(place[1])
    rule = recipe.replace[index]
    yield from _worded(error.fix, index)
    yield from _layouts(error.fix, index, rule)
    if len(place) > 2:
        yield from _at_key(error, place)
    yield from _excluding(error, index, rule)


def _edit(place: Place, value: Any) -> Edit:
    return Edit(place, json.dumps(value))


def _key(index: int, name: str) -> Place:
    return ("replace", index, name) if name in _KEYS else ("replace", index, "args", name)


def _worded(fix: str, index: int) -> Iterator[Edit]:
    """Yield what the advice says in so many words."""
    named = _SET.findall(fix)
    for name, text in named:
        value = int(text) if text.isdecimal() else _SCALARS.get(text, text)
        yield _edit(_key(index, name), value)
    out = [name for name, _ in named] if "or leave it out" in fix else _OUT.findall(fix)
    for name in out:
        if name not in _KEYS:
            yield _edit(_key(index, name), "auto")  # as if it were left out
    for name in _CLASS.findall(fix):
        yield _edit(("replace", index, "class"), name)


def _layouts(fix: str, index: int, rule: Rule) -> Iterator[Edit]:
    """Yield every layout, where the advice leaves open which."""
    for marked, its in _OPEN.findall(fix):
        names = [marked] if marked else [its]
        if its and ":" in rule.with_:
            names.append("wants")
        for name in names:
            for layout in LAYOUTS:
                yield _edit(("replace", index, name), layout)


def _at_key(error: ModswapError, place: Place) -> Iterator[Edit]:
    """Yield other values for the very key that is wrong."""
    if place[2:3] == ("expect",):
        for number in _COUNT.findall(error.what):
            yield _edit(place, int(number))
    if "has no argument" in error.what:
        return  # the name is wrong, not the value
    for near in _NEAR.findall(error.fix):
        for name in _QUOTED.findall(near):
            yield _edit(place, name)


def _excluding(error: ModswapError, index: int, rule: Rule) -> Iterator[Edit]:
    """Yield that a site is left out: one that is never called, or lies inside another."""
    path = ""
    if any(words in error.what for words in _NEVER):
        path = error.where
    elif error.fix.endswith("add it to `exclude`"):
        path = next(iter(_QUOTED.findall(error.what)), "")
    if _PLAIN.fullmatch(path):
        yield _edit(("replace", index, "exclude"), [*rule.exclude, path])


def _value(recipe: Recipe, place: Place) -> Any:
    """Return what a recipe says at a place; None if nothing."""
    value: Any = recipe.model_dump(mode="json", by_alias=True)
    for part in place:
        value = value.get(part) if isinstance(value, dict) else value[part]
    return value[0] if isinstance(value, list) and len(value) == 1 else value

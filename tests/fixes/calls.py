"""Calls of the command, and the same calls with other options or another recipe."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.rules.rule import Rule

RULE_KEYS = {f.alias or name for part in (Rule, Insert) for name, f in part.model_fields.items()}
TOP_KEYS = {"inputs", "verify", "model", "seed", "allow"}
# options without a value
_FLAGS = "adapt all dry-run force no-checksum no-forward partial resume share thorough trust"
FLAGS = {f"--{name}" for name in _FLAGS.split()}
ONCE = {"--match", "--with", "--expect", "--start", "--input"}


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the command: its arguments, and the recipe beside it if it has one."""

    args: tuple[str, ...]
    recipe: Mapping[str, Any] | None = None
    passes: bool = False  # whether it has to end with 0, as the tool has tried it
    taken: str = field(default="", compare=False)  # what was done

    def with_args(self, *args: str) -> "Call":
        """Return the call with further options, in the place of its own of the same names."""
        call, said = self, " ".join(args)
        for option, value in itertools.pairwise((*args, "")):
            call = call.without(option) if option in ONCE else call
            name = value.partition("=")[0]
            if option == "--set":
                call = replace(call, args=_without_setting(call.args, name))
        return replace(call, args=(*call.args, *args), taken=said)

    def as_recipe(self) -> "Call":
        """Return a check by the recipe that a check with options writes."""
        rule: dict[str, Any] = {}
        rest: list[str] = []
        words = iter(self.args)
        for word in words:
            if word == "--set":
                name, _, value = next(words).partition("=")
                rule.setdefault("args", {})[name] = yaml.safe_load(value)
            elif word.removeprefix("--") in RULE_KEYS - {"input", "output"}:
                key = word.removeprefix("--")
                rule[key] = True if word in FLAGS else yaml.safe_load(next(words))
            else:
                rest.append(word)
        return Call((*rest, "-c", "swap.yaml"), {"version": 1, "replace": [rule]})

    def without(self, option: str) -> "Call":
        """Return the call without an option and its value."""
        kept: list[str] = []
        drop = False
        for arg in self.args:
            if drop and not arg.startswith("--"):
                drop = False
                continue
            drop = arg.partition("=")[0] == option
            if not drop:
                kept.append(arg)
        return replace(self, args=tuple(kept), taken=f"no {option}")

    def with_key(self, key: str, value: Any) -> "Call":
        """Return the call with a key set in each rule of its recipe, or in the recipe itself."""
        recipe = yaml.safe_load(yaml.safe_dump(self.recipe))
        if key in TOP_KEYS:
            if isinstance(recipe.get(key), dict) and isinstance(value, dict):
                value = {**recipe[key], **value}
            recipe[key] = value
        else:
            for rule in [*recipe.get("replace", ()), *recipe.get("insert", ())]:
                _set(rule, key, value)
        return replace(self, recipe=recipe, taken=f"{key}: {value}")

    def without_key(self, key: str) -> "Call":
        """Return the call without a key of its rules or of their arguments."""
        recipe = yaml.safe_load(yaml.safe_dump(self.recipe))
        for rule in [*recipe.get("replace", ()), *recipe.get("insert", ())]:
            rule.pop(key, None)
            rule.get("args", {}).pop(key, None)
        return replace(self, recipe=recipe, taken=f"no {key}")

    def renamed(self, old: str, new: str) -> "Call":
        """Return the call with a name in place of another, wherever that is given."""
        word = re.compile(rf"(?<![\w.]){re.escape(old)}(?![\w])")
        args = tuple(word.sub(lambda _: new, arg) for arg in self.args)
        text = word.sub(lambda _: new, yaml.safe_dump(self.recipe)) if self.recipe else None
        recipe = yaml.safe_load(text) if text else None
        return replace(self, args=args, recipe=recipe, taken=f"{new} for {old}")


def _without_setting(args: tuple[str, ...], name: str) -> tuple[str, ...]:
    kept: list[str] = []
    for arg in args:
        if kept and kept[-1] == "--set" and arg.partition("=")[0] == name:
            kept.pop()
        else:
            kept.append(arg)
    return tuple(kept)


def _set(rule: dict[str, Any], key: str, value: Any) -> None:
    if key == "args":
        rule["args"] = {**rule.get("args", {}), **value}
    elif key == "exclude":
        rule["exclude"] = [
            *rule.get("exclude", []),
            *(value if isinstance(value, list) else [value]),
        ]
    elif key in RULE_KEYS:
        rule[key] = value
    else:
        rule.setdefault("args", {})[key] = value

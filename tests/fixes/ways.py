"""Take a printed fix as a program can: add its options, set its keys, use the name that it offers."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.rules.rule import Rule
from modswap.nn import CATALOGUE

RULE_KEYS = {f.alias or name for part in (Rule, Insert) for name, f in part.model_fields.items()}
TOP_KEYS = {"inputs", "verify", "model", "seed", "allow"}
_VALUE = r"(?:'[^']*'|\"[^\"]*\"|[^\s,;`)]+)"
# what only the user can fill in: FACTORY, [H, W], package.module:Class, an ellipsis, x.npy
_OPEN = re.compile(r"…|\.\.\.|\b[A-Z]{2,}\b|\bpackage\.|\bOLD=|\[H, W\]|\bF\b|^N$")
_SPAN = re.compile(r"`([^`]+)`")
_OPTION = re.compile(rf"(?<![\w`-])--([a-z][\w-]*)(?:[ =]({_VALUE}))?")
_ASKED = re.compile(r"did you mean (.+?)\?")
_SUCH_AS = re.compile(r"such as `?(\w+)`?")
_QUOTED = re.compile(r"'([^']+)'")
_LINES = re.compile(r"would pass with: .*\(swap\.yaml:\d+\)")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the command: its arguments, and the recipe beside it if it has one."""

    args: tuple[str, ...]
    recipe: Mapping[str, Any] | None = None
    passes: bool = False  # whether it has to end with 0, as the tool has tried it
    taken: str = field(default="", compare=False)  # what was done

    def with_args(self, *args: str) -> "Call":
        return replace(self, args=(*self.args, *args), taken=" ".join(args))

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

    def renamed(self, old: str, new: str) -> "Call":
        """Return the call with a name in place of another, wherever that is given."""
        word = re.compile(rf"(?<![\w.]){re.escape(old)}(?![\w])")
        args = tuple(word.sub(lambda _: new, arg) for arg in self.args)
        text = word.sub(lambda _: new, yaml.safe_dump(self.recipe)) if self.recipe else None
        recipe = yaml.safe_load(text) if text else None
        return replace(self, args=args, recipe=recipe, taken=f"{new} for {old}")


def _set(rule: dict[str, Any], key: str, value: Any) -> None:
    if key == "args":
        rule["args"] = {**rule.get("args", {}), **value}
    elif key == "exclude":
        rule["exclude"] = [*rule.get("exclude", []), *(value if isinstance(value, list) else [value])]
    elif key in RULE_KEYS:
        rule[key] = value
    else:
        rule.setdefault("args", {})[key] = value


def ways(call: Call, what: str, fix: str) -> Iterator[Call]:
    """Yield the calls that take a fix, each of its ways for itself, that differ from the first."""
    seen = {call}
    for one in _ways(call, what, fix):
        if one not in seen and one != call:
            seen.add(one)
            yield one


def _ways(call: Call, what: str, fix: str) -> Iterator[Call]:
    if _LINES.search(fix) and call.args[0] == "check":
        yield replace(call.with_args("--fix"), passes=True)
    tried, _, offered = fix.partition("would pass with: ")
    for option in _SPAN.findall(offered) if call.recipe is None else ():
        yield replace(call.with_args(*option.split(" ", 1)), passes=True)
    for span in _SPAN.findall(tried):
        yield from _of_span(call, span)
    yield from _of_options(call, _SPAN.sub("", tried))
    yield from _of_names(call, what, tried)


def _of_span(call: Call, span: str) -> Iterator[Call]:
    if _OPEN.search(span) or span.startswith("modswap "):
        return
    if span.startswith("--"):
        yield from _of_options(call, span)
    elif span.startswith("re:") and call.recipe is not None:
        yield call.with_key("match", span)
    elif ": " in span and call.recipe is not None:
        key, _, text = span.partition(": ")
        try:
            yield call.with_key(key, yaml.safe_load(text))
        except yaml.YAMLError:
            return


def _of_options(call: Call, text: str) -> Iterator[Call]:
    found = [(f"--{name}", value) for name, value in _OPTION.findall(text)]
    if re.search(r"\b(leave|take)\b[^;]*\bout\b", text):
        for option, _ in found:
            yield call.without(option)
        return
    flat: list[str] = []
    for option, value in found:
        value = value.strip("'\"")
        if option in FLAGS:
            yield call.with_args(option)
        elif value and not _OPEN.search(value):
            flat += [option, value]
    if flat:
        yield call.with_args(*flat)


FLAGS = {"--force", "--trust", "--thorough", "--adapt", "--share", "--resume", "--all", "--partial"}


def _of_names(call: Call, what: str, fix: str) -> Iterator[Call]:
    asked = _ASKED.search(fix)
    wrong = _QUOTED.search(what)
    if asked and wrong:
        for name in _QUOTED.findall(asked[1]):
            yield call.renamed(wrong[1], name)
    for name in _SUCH_AS.findall(fix):
        if name in CATALOGUE and call.recipe is not None:
            yield call.with_key("with", name)
    if "exclude" in fix and call.recipe is not None:
        for name in _QUOTED.findall(fix):
            yield call.with_key("exclude", name)
    taken_out = re.search(r"(?:take|leave) `(\w+)` out", fix)
    if taken_out and call.recipe is not None:
        recipe = yaml.safe_load(yaml.safe_dump(call.recipe))
        for rule in [*recipe.get("replace", ()), *recipe.get("insert", ())]:
            rule.pop(taken_out[1], None)
            rule.get("args", {}).pop(taken_out[1], None)
        yield replace(call, recipe=recipe, taken=f"no {taken_out[1]}")

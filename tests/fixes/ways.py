"""Take a printed fix as a program can: add its options, set its keys, use the name that it offers."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
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
_OPEN = re.compile(
    r"…|\.\.\.|\b(?!N?[HL]?[HWC]{2,3}\b|NCL\b|CBAM\b|ECA\b)[A-Z]{2,}\b|\bpackage\.|\bOLD=|\[H, W\]|\bF\b|^N$"
)
_SPAN = re.compile(r"`([^`]+)`")
_OPTION = re.compile(rf"(?<![\w`-])--([a-z][\w-]*)(?:[ =]({_VALUE}))?")
_ASKED = re.compile(r"did you mean (.+?)\?")
_SUCH_AS = re.compile(r"such as `?(\w+)`?")
_WRONG = re.compile(r" is '([^']+)', expected")
_LEFT_OUT = re.compile(
    r"(?:take|leave) `(\w+)(?:: [^`]*)?` out|(?:set|correct) `(\w+)[^`]*`,? or leave it out"
)
_CLASS = re.compile(r"(?!re:)[\w./]+:\w+")
_WRITE = re.compile(r"write `([^`]+)`")
_EXAMPLE = re.compile(r"(?:as in|say where each class is now:|an alias is for a class:) --\S+ \S+")
_JOINT = re.compile(r"`([^`]+)`(?:,? (?:and|with)) `([^`]+)`")
_SET_TO = re.compile(r"set `(\w+)` to (\S+)")
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
        """Return the call with further options, in the place of its own of the same names."""
        call, said = self, " ".join(args)
        for option, value in itertools.pairwise((*args, "")):
            own = option in {"--match", "--with", "--expect", "--start", "--input"}
            call = call.without(option) if own else call
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


def ways(call: Call, what: str, fix: str) -> Iterator[Call]:
    """Yield the calls that take a fix, each of its ways for itself, that differ from the first."""
    seen = [call]
    for one in _ways(call, what, fix):
        if one not in seen:
            seen.append(one)
            yield one


def _ways(call: Call, what: str, fix: str) -> Iterator[Call]:
    if _LINES.search(fix) and call.args[0] == "check":
        yield replace(call.with_args("--fix"), passes=True)
    tried, _, offered = fix.partition("would pass with: ")
    if call.recipe is None and offered:
        yield _with_options(call, _SPAN.findall(offered))
    for one, other in _JOINT.findall(tried):
        for first in _of_span(call, one):
            yield from _of_span(first, other)
    for span in _SPAN.findall(_JOINT.sub("", tried)):
        yield from _of_span(call, span)
    yield from _of_options(call, _EXAMPLE.sub("", _SPAN.sub("", tried)))
    yield from _of_names(call, what, tried)


def _with_options(call: Call, spans: Sequence[str]) -> Call:
    """Return a call with the options that the tool found to pass, and keys of a recipe."""
    for span in spans:
        if span.startswith("--") and not _OPEN.search(span):
            option, *value = span.split(" ", 1)
            call = call.with_args(option, *(one.strip('"') for one in value))
    for span in spans:
        if not span.startswith("--"):
            call = call.as_recipe() if call.recipe is None else call
            key, _, text = span.partition(": ")
            call = call.with_key(key, yaml.safe_load(text))
    return replace(call, passes=True)


def _of_span(call: Call, span: str) -> Iterator[Call]:
    if _OPEN.search(span) or span.startswith("modswap "):
        return
    if span.startswith("--"):
        yield from _of_options(call, span)
    elif _CLASS.fullmatch(span) and call.recipe is not None:
        yield call.with_key("with", span)
    elif re.match("re:.", span) and call.recipe is not None:
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
    wrong = _WRONG.search(what) or _QUOTED.search(what)
    meant = _WRITE.search(fix)
    if meant and wrong and "…" not in meant[1]:
        yield call.renamed(wrong[1], meant[1])
    if asked and wrong:
        for name in _QUOTED.findall(asked[1]):
            yield call.renamed(wrong[1], name)
    for name in _SUCH_AS.findall(fix):
        if name in CATALOGUE and call.recipe is not None:
            yield call.with_key("with", name)
    if "exclude" in fix and call.recipe is not None:
        for name in _QUOTED.findall(fix):
            yield call.with_key("exclude", name)
    if call.recipe is None:
        return
    for key, value in _SET_TO.findall(fix):
        yield call.with_key(key, value)
    for found in _LEFT_OUT.finditer(fix):
        yield call.without_key(found[1] or found[2])

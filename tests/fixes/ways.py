"""Take a printed fix as a program can: add options, set keys, use the names that it offers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import yaml

from modswap.nn import CATALOGUE
from tests.fixes.calls import FLAGS, Call

_VALUE = r"(?:\d+(?:,\d+)+(?::\w+)?|'[^']*'|\"[^\"]*\"|[^\s,;`)]+)"
# what only the user can fill in: FACTORY, [H, W], package.module:Class, an ellipsis, x.npy
_OPEN = re.compile(
    r"…|\.\.\.|\b(?!N?[HL]?[HWC]{2,3}\b|NLC\b|NCL\b|CBAM\b|ECA\b)[A-Z]{2,}\b|"
    r"\bpackage\.|\bOLD=|\[H, W\]|\bF\b|^N$"
)
_SPAN = re.compile(r"`([^`]+)`")
_OPTION = re.compile(rf"(?<![\w`-])--([a-z][\w-]*)(?:[ =]({_VALUE}))?")
_ASKED = re.compile(r"did you mean (.+?)\?")
_SUCH_AS = re.compile(r"such as `?(\w+)`?")
_WRONG = re.compile(r" is '([^']+)', expected|no such \w+:? '?([\w-]+)")
_LEFT_OUT = re.compile(
    r"(?:take|leave) `(\w+)(?:: [^`]*)?` out|(?:set|correct) `(\w+)[^`]*`,? or leave it out"
)
_CLASS = re.compile(r"(?!re:)[\w./]+:\w+")
_WRITE = re.compile(r"write `(?!\{a,b\})([^`]+)`")
_EXAMPLE = re.compile(
    r"(?:as in|say where each class is now:|an alias is for a class:|of these:|write) --\S+ "
    r"(?:\".*\"|[^\s,]+(?:, or --\S+ [^\s,]+)?)"
)
_JOINT = re.compile(r"`([^`]+)`(?:,? (?:and|with)) `([^`]+)`")
_SET_TO = re.compile(r"set `(\w+)` to (\S+)")
_QUOTED = re.compile(r"['`]([^'`]+)['`]")
_LINES = re.compile(r"would pass with: .*\(swap\.yaml:\d+\)")


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
    elif ": " in span and (call.recipe is not None or call.args[0] == "check"):
        key, _, text = span.partition(": ")
        call = call.as_recipe() if call.recipe is None else call
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
        if option in FLAGS:
            yield call.with_args(option)
        elif value and not _OPEN.search(value):
            flat += [option, value.strip("'\"")]
    if flat:
        yield call.with_args(*flat)


def _of_names(call: Call, what: str, fix: str) -> Iterator[Call]:
    """Yield the calls with a name of the fix in the place of the wrong one."""
    found = _WRONG.search(what) or _QUOTED.search(what)
    wrong = next(filter(None, found.groups()), "") if found else ""
    asked, meant = _ASKED.search(fix), _WRITE.findall(fix)
    names = [
        *(one for one in meant if "…" not in one),
        *(_QUOTED.findall(asked[1]) if asked else []),
    ]
    yield from (call.renamed(wrong, name) for name in names if wrong)
    if call.recipe is not None:
        yield from _of_keys(call, fix)


def _of_keys(call: Call, fix: str) -> Iterator[Call]:
    """Yield the calls with keys of the recipe that a fix names without backquotes."""
    rows = (name for name in _SUCH_AS.findall(fix) if name in CATALOGUE)
    yield from (call.with_key("with", name) for name in rows)
    if "exclude" in fix:
        yield from (call.with_key("exclude", name) for name in _QUOTED.findall(fix))
    yield from (call.with_key(key, value) for key, value in _SET_TO.findall(fix))
    yield from (call.without_key(one or other) for one, other in _LEFT_OUT.findall(fix))

"""Advice for callers from Python: options of the command line as arguments of functions."""

import re
from collections.abc import Callable
from functools import wraps
from itertools import chain, zip_longest
from typing import ParamSpec, TypeVar

from modswap.core.errors import ModswapError

P = ParamSpec("P")
R = TypeVar("R")
_VALUE = r"(?:'[^']*'|[^\s,;`)]+)"
# what stays: calls of the command itself
_CALL = re.compile(r"`modswap [^`]*`")
_UNCALLED = re.compile(r"`(\w+) --no-forward`")
_ALLOWED = re.compile(rf"--allow {_VALUE}(?: --allow {_VALUE})*")
_PAIRED = re.compile(rf"--(alias|rename) {_VALUE}(?: --\1 {_VALUE})*")
# in their order: options with their values come before their bare names
_PLAIN = (
    (re.compile(r'--model (?=")'), "model="),
    (re.compile(rf"--model ({_VALUE})"), r"model='\1'"),
    (re.compile(r"--strip-prefix '?([\w.-]+)'?"), r"strip_prefix='\1'"),
    (re.compile(r"--(force|trust)\b"), r"\1=True"),
    (re.compile(r"leave --plain out"), "leave `plain` out"),
    (re.compile(r"--no-checksum\b"), "checksum=False"),
    (re.compile(r"`--input [^`]*`, or (?=`inputs:`)"), ""),
    (
        re.compile(r"`--input [^`]*`(, once for each tensor of the call)?"),
        "`inputs:` in the recipe",
    ),
    (re.compile(r"`?--thorough\b`?"), "`verify: {thorough: true}` in the recipe"),
    (re.compile(r"--(allow|alias|model|rename)\b"), r"\1="),
    (re.compile(r"(?<=['\]]) (?=(?:alias|allow|rename|strip_prefix)=)"), ", "),
)


def as_python(text: str) -> str:
    """Return a text in which options of the command line are arguments of Python.

    Calls of the command, such as `modswap tree --input …`, stay.
    """
    if "--" not in text:
        return text
    text = _UNCALLED.sub(r"`modswap \1 --no-forward`", text)
    calls = _CALL.findall(text)
    parts = [_spelled(part) for part in _CALL.split(text)]
    return "".join(chain(*zip_longest(parts, calls, fillvalue="")))


def _spelled(text: str) -> str:
    text = _ALLOWED.sub(lambda found: f"allow={found[0].split()[1::2]!r}", text)
    text = _PAIRED.sub(_pairs, text)
    for option, argument in _PLAIN:
        text = option.sub(argument, text)
    return text


def _pairs(found: re.Match[str]) -> str:
    """Return renamings, `--rename a=b --rename 'c.='`, as an argument."""
    values = re.findall(rf"--{found[1]} ({_VALUE})", found[0])
    halves = [value.strip("'").partition("=") for value in values]
    return f"{found[1]}={[(old, new) for old, _, new in halves]!r}"


def for_python(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function whose errors give advice as callers from Python write it."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ModswapError as error:
            for one in error.all:
                one.what, one.fix = as_python(one.what), as_python(one.fix)
                if one.where.startswith("--"):
                    one.where = one.where.removeprefix("--").replace("-", "_")
            raise

    return called

"""Advice for callers from Python: options of the command line as arguments of functions."""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from modswap.core.errors import ModswapError

P = ParamSpec("P")
R = TypeVar("R")
_VALUE = r"[^\s,;`]+"
_ALLOWED = re.compile(rf"--allow {_VALUE}(?: --allow {_VALUE})*")
_ALIASED = re.compile(rf"--alias ({_VALUE}?)=({_VALUE})")
_PLAIN = (
    (re.compile(rf"--model ({_VALUE})"), r"model='\1'"),
    (re.compile(r"--(force|trust)\b"), r"\1=True"),
    (re.compile(r"`?--input [^\s`;]+`?"), "`inputs:` in the recipe"),
    (re.compile(r"--(allow|alias|model)\b"), r"\1="),
)


def as_python(text: str) -> str:
    """Return a text in which options of the command line are arguments of Python."""
    text = _ALLOWED.sub(lambda found: f"allow={found[0].split()[1::2]!r}", text)
    text = _ALIASED.sub(lambda found: f"alias=[({found[1]!r}, {found[2]!r})]", text)
    for option, argument in _PLAIN:
        text = option.sub(argument, text)
    return text


def for_python(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function whose errors give advice as callers from Python write it."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ModswapError as error:
            for one in error.all:
                one.what, one.where, one.fix = map(as_python, (one.what, one.where, one.fix))
            raise

    return called

"""Fixes that no program can take, each with the reason."""

import re

_REASONS = {
    "only the user knows the value that is meant": (
        r"^correct |^write (a path|it as|the value|--alias|--start|--rename)|^choose one of them",
        r"^(set|give a value for) `\w+` under `args`|^add `(--set )?\w+(=|: )…`|widen `where`",
        r"^`\*` stands for the classes|^set the differing args|^it has |^known here",
        r"^write [\d.]+$|^take the quotes off|^write numbers|^name a device|^see `modswap",
        r"^add --(with MODULE|match PATTERN)|^write `\{a,b\}`|^`\w+` is a key of ",
    ),
    "only the user knows which modules are meant": (
        r"^narrow |^select (a module|each|only one)|^take it out|reaches it, or take it out",
        r"`modswap (tree|catalogue|init)`|is an operation and no module",
    ),
    "the user's own class or model has to change": (
        r"^choose a (class|module)|a class of yours|change `args` or `match`|`detach` it",
        r"^put a method|^remove what the forward|\.to\(x\.dtype\)",
        r"^return the model|^call it in",
        r"^look for a(n| division)|^name the class itself|^smaller modules|keep the sizes of",
    ),
    "only the user has another file or input": (
        r"^say how to build|^build the model|^save the |^write package|^make its folder",
        r"^check the name|^name (a|another) file|^make it first|paths are relative",
        r"`--input SHAPE`|^give a smaller input|^add the recipe|^add `-c RECIPE`",
    ),
    "something has to be installed, or is wrong in a library": (r"^install it|^import it",),
    "one of two that contradict each other goes, and only the user knows which": (
        r"^(leave|keep) one of them|^put the rule into the recipe",
    ),
}


def reason(fix: str) -> str:
    """Return why a fix is taken by hand; empty for one that nobody has looked at."""
    found = (why for why, texts in _REASONS.items() if any(re.search(t, fix) for t in texts))
    return next(found, "")

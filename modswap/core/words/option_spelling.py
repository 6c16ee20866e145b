"""Advice on a rule that was made of options: keys of a recipe as the options in their place."""

import copy
import re

from modswap.core.errors import ModswapError

# keys of a rule that have an option of their name
_OPTIONS = "match|exclude|class|expect|with|start|after|before|around|name"
_SWITCHES = "adapt|share"
_KEYS = "layout|wants|where|prefix|grid|input|output|verify|sizes"  # of a recipe alone


def _settings(found: re.Match[str]) -> str:
    """Return the options for arguments: `args: {a: 1, b: 2}` as `--set a=1 --set b=2`."""
    pairs = re.split(r", (?=\w+: )", found[2])
    options = [f"--set {pair.replace(': ', '=', 1)}" for pair in pairs]
    return f"{'add ' if found[1] else ''}`{' '.join(options)}`"


_SPELLED = (
    (re.compile(r"(set )?`args: \{([^`{}]+)\}`"), _settings),
    (re.compile(rf"`({_SWITCHES}): true`"), r"`--\1`"),
    (re.compile(rf"`({_OPTIONS}): ([^`]+)`"), r"`--\1 \2`"),
    (re.compile(rf"`({_OPTIONS}|{_SWITCHES}):?`"), r"`--\1`"),
    (re.compile(r"(?:set|give a value for) `(\w+)` under `args`"), r"add `--set \1=…`"),
    (re.compile(r"`args`"), "`--set`"),
    # what has another name is an argument of the new module
    (re.compile(rf"set `(?!(?:{_KEYS})\b)(\w+): ([^`]+)`"), r"add `--set \1=\2`"),
    (re.compile(r" (?:on|in|of) (?:its|the) rule\b"), ""),
)
# keys that follow one another have one note
_OF_RECIPE = re.compile(rf"`(?:{_KEYS})\b[^`]*`(?: or `(?:{_KEYS})\b[^`]*`)*")
_TRUST = re.compile(r"(?:; )?for a file of your own making there is --trust")
_RECIPE = "(in a recipe, which -c names)"


def is_option(key: str) -> bool:
    """Return whether a key of a rule has an option of its name."""
    return key in f"{_OPTIONS}|{_SWITCHES}".split("|")


def with_options(text: str) -> str:
    """Return a text in which keys of a rule, in backquotes, are options of the command."""
    for key, option in _SPELLED:
        text = key.sub(option, text)
    return text


def spelled(error: ModswapError) -> ModswapError:
    """Return a copy of an error, and of those that came with it, that names options."""
    changed = copy.copy(error)
    changed.what, changed.fix = with_options(error.what), with_options(error.fix)
    if "--save-recipe" not in error.fix:
        changed.fix = _OF_RECIPE.sub(rf"\g<0> {_RECIPE}", changed.fix, count=1)
    changed.more = tuple(map(spelled, error.more))
    return changed


def never_trusted(error: ModswapError) -> ModswapError:
    """Return a copy of an error of a reader that builds nothing, and so has no `--trust`."""
    changed = copy.copy(error)
    changed.fix = _TRUST.sub("", error.fix) or "save it again with a current torch"
    changed.more = tuple(map(never_trusted, error.more))
    return changed

"""Advice about a pattern that selects nothing, or modules of many kinds."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from modswap.core.asked.patterns import compile_pattern, is_like_regex
from modswap.core.errors import RecipeError
from modswap.core.finding import HERE, Settings
from modswap.core.seen.site import Site
from modswap.core.words.nearest import in_question, nearest

SHOWN_CLASSES = 6  # in a message, the most frequent first
SHOWN_PATHS = 3
MAX_TRIED_PATHS = 5000  # on which another reading of a pattern is tried


@dataclass(frozen=True, slots=True)
class Advice:
    """A fix, and the settings that `check --fix` may try."""

    fix: str
    settings: Settings = ()


def advice_for(text: str, paths: Sequence[str], otherwise: str) -> Advice:
    """Return how to correct a pattern that selects none of the paths of a model.

    A regular expression without `re:`, and a `*` that would have to cross a dot, are recognised by
    what they would select; after them come paths of a near name, then `otherwise`.
    """
    for meant, why in _readings(text):
        hits = _selected(meant, paths[:MAX_TRIED_PATHS])
        if hits:
            shown = ", ".join(hits[:SHOWN_PATHS]) + (", …" if len(hits) > SHOWN_PATHS else "")
            fix = f"{why}: `match: {_quoted(meant)}` selects {shown}"
            return Advice(fix, ((HERE, meant),))
    near = nearest(text, paths)
    settings = tuple((HERE, name) for name in near)
    fix = in_question(near) or otherwise
    return Advice(f"{REGEX}; {fix}" if is_like_regex(text) else fix, settings)


REGEX = "a regular expression begins with `re:` and matches whole paths"


def _readings(text: str) -> list[tuple[str, str]]:
    """Return other patterns that a text could mean, and the rule that it overlooks."""
    if text.startswith("re:"):
        whole = _unanchored(text.removeprefix("re:"))
        return [(f"re:{one}", "`re:` matches whole paths") for one in whole]
    regexes = [(f"re:{one}", REGEX) for one in (text, *_unanchored(text))]
    deeper = re.sub(r"(?<![^.])\*(?=\.)", "**", text)
    globs = [(deeper, "`*` crosses no dot")] if deeper != text else []
    globs += [] if text.startswith(("*", "re:")) else [(f"**.{text}", "a pattern is a whole path")]
    if is_like_regex(text):
        return regexes
    return [*globs, *(regexes[:1] if ".*" in text else [])]


def _unanchored(regex: str) -> list[str]:
    """Return a regular expression that was meant for a part of a path, as ones for the whole."""
    inner = regex.removeprefix("^")
    inner = inner[:-1] if inner.endswith("$") and not inner.endswith(r"\$") else inner
    inner = f"(?:{inner})" if "|" in inner else inner
    anchored = [inner] if inner != regex else []
    start = [] if regex.startswith("^") else [f".*{inner}"]
    end = [] if regex.endswith("$") else [f"{inner}.*"]
    return [*anchored, *start, *end, *([f".*{inner}.*"] if start and end else [])]


def _selected(pattern: str, paths: Sequence[str]) -> list[str]:
    try:
        compiled = compile_pattern(pattern)
    except RecipeError:
        return []
    return [path for path in paths if compiled.matches(path)]


def _quoted(pattern: str) -> str:
    return f"'{pattern}'" if "'" not in pattern else pattern


def classes(sites: Sequence[Site]) -> str:
    """Return the classes of sites with their numbers, the most frequent first."""
    counts = Counter(site.short_class for site in sites).most_common()
    shown = ", ".join(f"{count} {name}" for name, count in counts[:SHOWN_CLASSES])
    return f"{shown}, …" if len(counts) > SHOWN_CLASSES else shown


def class_advice(sites: Sequence[Site], taken: Sequence[str] = ()) -> Advice:
    """Return how to narrow a pattern that selects modules of several classes and of each other.

    The offered class has no module inside another of its own.
    """
    counts = Counter(site.short_class for site in sites).most_common()
    apart = [name for name, _ in counts if name not in taken and not _nested(sites, name)]
    if not apart:
        return Advice("narrow `match`")
    likely = sorted(apart, key=lambda name: "ttention" not in name and "Attn" not in name)
    fix = f"add `class:` to take modules of one kind, such as `class: {likely[0]}`"
    return Advice(fix)  # no setting: which modules are meant is left to the user


def _nested(sites: Sequence[Site], name: str) -> bool:
    paths = {path for site in sites if site.short_class == name for path in site.paths}
    return any(path[:at] in paths for path in paths for at in _dots(path))


def _dots(path: str) -> list[int]:
    return [index for index, character in enumerate(path) if character == "."]

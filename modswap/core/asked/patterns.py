"""The pattern language for module paths: globs over whole segments, or `re:`."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from modswap.core.errors import RecipeError

MAX_ALTERNATIVES = 1000  # that the braces of a pattern may expand to
MAX_EXPANDED_CHARACTERS = 100_000  # of all alternatives together
MAX_PATTERN_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, ready to be tried on paths."""

    text: str  # the pattern as it was written
    regex: re.Pattern[str]  # the regular expression that it means

    def matches(self, path: str) -> bool:
        """Return whether the pattern selects a dotted path."""
        return self.regex.fullmatch(path) is not None


def compile_pattern(text: str, where: str = "") -> Pattern:
    """Return a pattern, ready to be tried on paths.

    `*` matches part or all of a segment, `?` one character, `[ab]` one of several, and
    none crosses a dot, so `layer.1` does not select `layer.10`. `**` matches any number of
    segments, none included. `{a,b}` matches either alternative, which may hold dots. A regular
    expression follows `re:`, and must match the whole path; it may take any time, while a glob
    never takes longer than its length times the path's, squared.

    Raises:
        RecipeError: If it is no pattern.
    """
    if text.startswith("re:"):
        return Pattern(text, _compiled(text.removeprefix("re:"), text, where))
    if len(text) > MAX_PATTERN_CHARACTERS:
        what = f"{text[:40]!r}… has {len(text):,} characters"
        what += f", over the {MAX_PATTERN_CHARACTERS:,} of a pattern"
        raise RecipeError(what, where, "write a list of patterns")
    alternatives = _alternatives(text, where)
    return Pattern(
        text, _compiled("|".join(_regex(one, text, where) for one in alternatives), text, where)
    )


_REGEX_SIGNS = re.compile(r"[\\+$|()]|(?<!\[)\^|\A\.|\.\.|\[\^?\.")


def pattern_of(path: str) -> str:
    """Return a pattern that selects only this path."""
    special = bool(re.search(r"[*?\[\]{}\\\ud800-\udfff]", path)) or path.startswith("re:")
    return f"re:{_escaped(path)}" if special else path


def _escaped(path: str) -> str:
    # a recipe can hold no half of a character
    whole = re.sub("[\ud800-\udfff]", "\0", path)
    return "".join(f"\\{c}" if c in "*?[]{}.+()^$|\\" else c for c in whole).replace("\0", ".")


def is_like_regex(text: str) -> bool:
    """Return whether a glob holds signs that have a meaning in regular expressions alone."""
    return not text.startswith("re:") and _REGEX_SIGNS.search(text) is not None


def _or_regex(fix: str, text: str) -> str:
    """Return the fix of a faulty glob, which may be a regular expression without its `re:`."""
    if not is_like_regex(text):
        return fix
    return f"{fix}; a regular expression begins with `re:`, as in `re:{text[:80]}`"


def _compiled(regex: str, text: str, where: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns about `[[` and the like
            return re.compile(regex)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"{text!r} is no regular expression: {error}"
        fix = "correct it after `re:`"
        if not text.startswith("re:"):
            what, fix = f"{text!r} has a range that runs backwards", "write it as in `[0-9]`"
        raise RecipeError(what, where, _or_regex(fix, text)) from None


def _alternatives(text: str, where: str) -> list[str]:
    """Return the pattern with every choice of its braces."""
    pending, done, size = [text], list[str](), 0
    while pending:
        current = pending.pop(0)
        opened = current.find("{")
        if opened < 0:
            if "}" in current:
                fix = _or_regex(_BRACES, text)
                raise RecipeError(f"{text!r} closes a brace that it did not open", where, fix)
            size += len(current)
            done.append(current)
        else:
            parts, end = _split(current, opened, text, where)
            pending[:0] = [current[:opened] + part + current[end + 1 :] for part in parts]
        if len(pending) + len(done) > MAX_ALTERNATIVES or size > MAX_EXPANDED_CHARACTERS:
            what = f"{text[:60]!r} expands to over {MAX_ALTERNATIVES} patterns"
            if size > MAX_EXPANDED_CHARACTERS:
                what = f"{text[:60]!r} expands to patterns of over "
                what += f"{MAX_EXPANDED_CHARACTERS:,} characters"
            raise RecipeError(what, where, "write several patterns, or use `*`")
    return done


_BRACES = "write `{a,b}` for one of several"


def _split(current: str, opened: int, text: str, where: str) -> tuple[list[str], int]:
    """Return the alternatives of the brace at `opened`, and the index of its end."""
    depth, start, parts = 0, opened + 1, []
    for index in range(opened, len(current)):
        character = current[index]
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 1:
            parts.append(current[start:index])
            start = index + 1
        if depth == 0:
            return [*parts, current[start:index]], index
    what = f"{text!r} opens a brace that it does not close"
    raise RecipeError(what, where, _or_regex(_BRACES, text))


def _regex(glob: str, text: str, where: str) -> str:
    """Return the regular expression of a pattern without braces.

    The segments between two `**` are matched at the first place that fits, and never again
    (`(?>…)`): a later place could not help the rest, and trying all would take forever.
    """
    segments = glob.split(".")
    if not all(segments):
        what = f"{text!r} has an empty segment" if text else "the pattern is empty"
        meant = _RANGE.sub(_listed, text)
        fix = _or_regex("write a path such as 'blocks.*.attn'", text)
        raise RecipeError(what, where, f"write `{meant}`" if meant != text else fix)
    runs: list[list[str]] = [[]]
    for segment in segments:
        if segment == "**":
            runs.append([])
        else:
            runs[-1].append(segment)
    first, *middle, last = runs if len(runs) > 1 else (runs[0], [])
    if len(runs) == 1:
        return _run(first)
    made = f"{_run(first)}(?:\\.|\\Z)" if first else ""
    made += "".join(rf"(?>(?:{_ANY}\.)*?{_run(run)}(?:\.|\Z))" for run in middle if run)
    # after a `\Z` above nothing is left, and only an empty end can match
    if not last:
        return f"{made}(?:{_ANY}(?:\\.{_ANY})*)?" if made else f"{_ANY}(?:\\.{_ANY})*"
    return rf"{made}(?:{_ANY}\.)*{_run(last)}"


_ANY = "[^.]++"
_RANGE = re.compile(r"\{(\d{1,3})\.\.\.?(\d{1,3})\}")  # as shells have it


def _listed(found: re.Match[str]) -> str:
    """Return a range of numbers as a list: `{0..2}` as `{0,1,2}`."""
    numbers = range(int(found[1]), int(found[2]) + 1)
    return f"{{{','.join(map(str, numbers))}}}" if len(numbers) > 1 else found[0]


def _run(segments: Sequence[str]) -> str:
    return r"\.".join(map(_segment, segments))


def _segment(segment: str) -> str:
    """Return the regular expression of one segment, which is never empty.

    As between two `**`, the text between two `*` is matched once.
    """
    pieces, index = [""], 0
    while index < len(segment):
        character = segment[index]
        index += 1
        closed = _closed(segment, index) if character == "[" else -1
        if character == "*":
            pieces.append("")
        elif character == "?":
            pieces[-1] += "[^.]"
        elif closed >= 0:
            pieces[-1] += _one_of(segment[index:closed])
            index = closed + 1
        else:
            pieces[-1] += re.escape(character)
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    between = "".join(f"(?>[^.]*?{piece})" for piece in middle if piece)
    return rf"(?=[^.]){first}{between}[^.]*{last}(?![^.])"


def _closed(segment: str, start: int) -> int:
    """Return the index of the bracket's end, or -1; its content begins at `start`."""
    negated = segment[start : start + 1] in {"!", "^"}
    return segment.find("]", start + negated + 1)


def _one_of(inside: str) -> str:
    negated = inside[0] in "!^"
    chosen = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
    return f"(?!\\.)[{'^' * negated}{chosen}]"

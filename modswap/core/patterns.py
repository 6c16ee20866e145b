"""The pattern language for module paths: globs over whole segments, or `re:`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from modswap.core.errors import RecipeError

MOST = 1000  # alternatives that the braces of one pattern may multiply to


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, ready to be tried on paths.

    Args:
        text: The pattern as it was written.
        regex: What it means.
    """

    text: str
    regex: re.Pattern[str]

    def matches(self, path: str) -> bool:
        """Return whether the pattern selects a dotted path."""
        return self.regex.fullmatch(path) is not None


def matches(pattern: str, path: str) -> bool:
    """Return whether a pattern selects a dotted path."""
    return compile_pattern(pattern).matches(path)


def compile_pattern(text: str, where: str = "") -> Pattern:
    """Return a pattern, ready to be tried on paths.

    `*` stands for part or all of one segment, `?` for one character, `[ab]` for one of several, and
    none crosses a dot, so `layer.1` does not select `layer.10`. `**` stands for any number of
    segments, none included. `{a,b}` is one of its alternatives, which may hold dots. After `re:`
    stands a regular expression that must match the whole path.

    Args:
        text: The pattern.
        where: Its place in the recipe, for errors.

    Raises:
        RecipeError: If it is no pattern.
    """
    if text.startswith("re:"):
        try:
            return Pattern(text, re.compile(text.removeprefix("re:")))
        except (re.error, RecursionError, OverflowError) as error:
            what = f"{text!r} is no regular expression: {error}"
            raise RecipeError(what, where, "correct it after `re:`") from None
    alternatives = list(_alternatives(text, where))
    return Pattern(text, re.compile("|".join(_regex(one, text, where) for one in alternatives)))


def _alternatives(text: str, where: str) -> Iterator[str]:
    """Yield the pattern with every choice of its braces."""
    pending, count = [text], 0
    while pending:
        current = pending.pop(0)
        opened = current.find("{")
        if opened < 0:
            if "}" in current:
                raise RecipeError(f"{text!r} closes a brace that it did not open", where, _BRACES)
            count += 1
            if count > MOST:
                what = f"{text[:60]!r} stands for over {MOST} patterns"
                raise RecipeError(what, where, "write several patterns, or use `*`")
            yield current
            continue
        parts, end = _split(current, opened, text, where)
        pending[:0] = [current[:opened] + part + current[end + 1 :] for part in parts]
        if len(pending) > MOST:
            what = f"{text[:60]!r} stands for over {MOST} patterns"
            raise RecipeError(what, where, "write several patterns, or use `*`")


_BRACES = "write `{a,b}` for one of several"


def _split(current: str, opened: int, text: str, where: str) -> tuple[list[str], int]:
    """Return the alternatives of the brace at `opened`, and where it closes."""
    depth, start, parts = 0, opened + 1, []
    for index in range(opened, len(current)):
        character = current[index]
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 1:
            parts.append(current[start:index])
            start = index + 1
        if depth == 0:
            return [*parts, current[start:index]], index
    raise RecipeError(f"{text!r} opens a brace that it does not close", where, _BRACES)


def _regex(glob: str, text: str, where: str) -> str:
    """Return the regular expression of a pattern without braces."""
    segments = glob.split(".")
    if not all(segments):
        what = f"{text!r} has an empty segment" if text else "the pattern is empty"
        raise RecipeError(what, where, "write a path such as 'blocks.*.attn'")
    merged = [s for i, s in enumerate(segments) if s != "**" or i == 0 or segments[i - 1] != "**"]
    if merged == ["**"]:
        return r"[\s\S]+"
    made = ""
    for index, segment in enumerate(merged):
        if segment == "**":
            last = index == len(merged) - 1
            made += r"(?:\.[^.]+)*" if last else r"(?:[^.]+\.)*"
        else:
            made += _segment(segment)
            following = merged[index + 1] if index + 1 < len(merged) else None
            closes = following == "**" and index + 2 == len(merged)
            made += "" if following is None or closes else r"\."
    return made


def _segment(segment: str) -> str:
    """Return the regular expression of one segment."""
    made, index = "", 0
    while index < len(segment):
        character = segment[index]
        index += 1
        if character == "*":
            made += "" if made.endswith("[^.]*") else "[^.]*"
        elif character == "?":
            made += "[^.]"
        elif character == "[" and "]" in segment[index + 1 :]:
            closed = segment.index("]", index + 1)
            inside = segment[index:closed]
            negated = inside[0] in "!^"
            chosen = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
            made += f"[{'^.' if negated else ''}{chosen}]"
            index = closed + 1
        else:
            made += re.escape(character)
    return made


def check_pattern(text: str, where: str) -> None:
    """Refuse what is no pattern.

    Raises:
        RecipeError: If it is none.
    """
    compile_pattern(text, where)

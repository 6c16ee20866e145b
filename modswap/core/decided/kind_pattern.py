"""The shortest selection of a rule that takes given modules and no others."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from modswap.core.asked.patterns import compile_pattern

MAX_ALTERNATIVES = 8  # in a pair of braces
MAX_EXCLUDED = 4  # patterns that a rule excludes
# braces around whole names that have nothing in common
_UNLIKE = re.compile(r"(?:\A|\.)\{[^}]*[^\d,}][^}]*\}(?:\Z|\.)")
_SPECIAL = frozenset("*?[]{},!\\")


@dataclass(frozen=True, slots=True)
class Selection:
    """The keys of a rule that select modules."""

    match: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    class_: str = ""  # bare class name; empty for any


def selection_of(chosen: Sequence[str], classes: dict[str, str]) -> Selection:
    """Return a selection that takes the chosen paths of a model, and no other of its modules.

    `classes` has the bare class name of every path. Patterns that show one kind of module
    (`blocks.*.attn`, `**.{space,channel}_attention`) come before those that need `class` or
    `exclude`, and before a list of all paths.
    """
    if len(chosen) == 1 or _SPECIAL & set("".join(chosen)):
        return Selection(tuple(chosen))
    wanted = set(chosen)
    names = {classes[path] for path in chosen}
    hits = {pattern: _selected(pattern, classes) for pattern in _patterns(chosen)}
    exact = [pattern for pattern, found in hits.items() if found == wanted]
    alike = [pattern for pattern in exact if not _UNLIKE.search(pattern)]
    if alike:
        return Selection((alike[0],))
    for pattern in [one for one in hits if not _UNLIKE.search(one)] if len(names) == 1 else []:
        if {path for path in hits[pattern] if classes[path] in names} == wanted:
            return Selection((pattern,), class_=names.pop())
    if exact:
        return Selection((exact[0],))
    for pattern, found in hits.items():
        if wanted < found and len(found - wanted) <= MAX_EXCLUDED < len(wanted):
            return Selection((pattern,), tuple(sorted(found - wanted)))
    return Selection(tuple(chosen))


def _selected(pattern: str, paths: dict[str, str]) -> set[str]:
    compiled = compile_pattern(pattern)
    return {path for path in paths if compiled.matches(path)}


def _patterns(paths: Sequence[str]) -> Iterator[str]:
    """Yield patterns that could select the paths, the most telling first."""
    split = [path.split(".") for path in paths]
    columns = list(zip(*split, strict=False))
    if len({len(segments) for segments in split}) == 1:
        yield ".".join(_one_of(column, stars=True) for column in columns)
        yield ".".join(_one_of(column, stars=False) for column in columns)
    lasts = _one_of([segments[-1] for segments in split], stars=True)
    shared = [column[0] for column in takewhile(lambda names: len(set(names)) == 1, columns[:-1])]
    yield f"**.{lasts}"
    yield ".".join([*shared, "**", lasts])
    yield "**"


def _one_of(segments: Sequence[str], *, stars: bool) -> str:
    """Return a pattern for one place of the paths: the segment, `*` or `{a,b}`."""
    names = list(dict.fromkeys(segments))
    if len(names) == 1:
        return names[0]
    if (stars and all(name.isdigit() for name in names)) or len(names) > MAX_ALTERNATIVES:
        return "*"
    begin = _shared_begin(names)
    rest = [name.removeprefix(begin) for name in names]
    end = _shared_begin([name[::-1] for name in rest])[::-1]
    return f"{begin}{{{','.join(name.removesuffix(end) for name in rest)}}}{end}"


def _shared_begin(names: Sequence[str]) -> str:
    """Return the words up to an underscore with which all names begin: `a_1` and `a_2`, `a_`."""
    columns = zip(*(name.split("_")[:-1] for name in names), strict=False)
    shared = takewhile(lambda words: len(set(words)) == 1, columns)
    return "".join(f"{words[0]}_" for words in shared)

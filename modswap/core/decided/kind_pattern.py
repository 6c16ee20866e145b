"""The shortest selection of a rule that takes given modules and no others."""

import re
from collections.abc import Iterator, Mapping, Sequence
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


def selection_of(chosen: Sequence[str], classes: Mapping[str, str]) -> Selection:
    """Return a selection that takes the chosen paths of a model, and no other of its modules.

    `classes` has the bare class name of every path. Patterns that show one kind of module
    (`blocks.*.attn`, `**.{space,channel}_attention`) come before those that need `class` or
    `exclude`, and before a list of all paths.
    """
    if len(chosen) == 1 or _SPECIAL & set("".join(chosen)):
        return Selection(tuple(chosen))
    wanted = set(chosen)
    hits = {pattern: _selected(pattern, classes) for pattern in _patterns(chosen)}
    exact = [Selection((pattern,)) for pattern, found in hits.items() if found == wanted]
    alike = [one for one in exact if not _UNLIKE.search(one.match[0])]
    narrowed = [*alike, *_of_class(hits, wanted, classes), *exact, *_with_exceptions(hits, wanted)]
    return next(iter(narrowed), Selection(tuple(chosen)))


def _of_class(
    hits: Mapping[str, set[str]], wanted: set[str], classes: Mapping[str, str]
) -> Iterator[Selection]:
    """Yield the patterns that take the wanted modules alone if a class is named too."""
    name, *others = {classes[path] for path in wanted}
    for pattern, found in hits.items():
        right = {path for path in found if classes[path] == name} == wanted
        if right and not others and not _UNLIKE.search(pattern):
            yield Selection((pattern,), class_=name)


def _with_exceptions(hits: Mapping[str, set[str]], wanted: set[str]) -> Iterator[Selection]:
    """Yield the patterns that take few other modules, with these as exceptions."""
    for pattern, found in hits.items():
        if wanted < found and len(found - wanted) <= MAX_EXCLUDED < len(wanted):
            yield Selection((pattern,), tuple(sorted(found - wanted)))


def _selected(pattern: str, paths: Mapping[str, str]) -> set[str]:
    compiled = compile_pattern(pattern)
    return {path for path in paths if compiled.matches(path)}


def _patterns(paths: Sequence[str]) -> Iterator[str]:
    """Yield patterns that could select the paths, the most telling first."""
    split = [path.split(".") for path in paths]
    columns = list(zip(*split, strict=False))
    if len({len(segments) for segments in split}) == 1:
        yield ".".join(_one_of(column, stars=True) for column in columns)
        yield ".".join(_one_of(column, stars=False) for column in columns)
    lasts = ".".join(_one_of(column, stars=True) for column in _ends(split))
    shared = [column[0] for column in takewhile(lambda names: len(set(names)) == 1, columns[:-1])]
    yield f"**.{lasts}"
    yield ".".join([*shared, "**", lasts])
    yield "**"


def _ends(split: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the last segments of all paths, as many as a name needs: `attentions.0`, not `0`."""
    ends = [[segments[-1] for segments in split]]
    shortest = min(map(len, split))
    while all(name.isdigit() for name in ends[0]) and len(ends) < shortest:
        ends.insert(0, [segments[-1 - len(ends)] for segments in split])
    return ends


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
    """Return what all names begin with: words up to an underscore, or all but a number."""
    numbered = {re.sub(r"\d+\Z", "", name) for name in names}
    if len(numbered) == 1 and all(name[-1:].isdigit() for name in names):
        return numbered.pop()
    columns = zip(*(name.split("_")[:-1] for name in names), strict=False)
    shared = takewhile(lambda words: len(set(words)) == 1, columns)
    return "".join(f"{words[0]}_" for words in shared)

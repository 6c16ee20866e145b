"""The right name nearest to a wrong one."""

import difflib
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

CUTOFF_RATIO = 0.6  # difflib's own measure: 1 is equal, 0 has nothing in common
ALIKE_RATIO = 0.8  # similarity of two names from which a typing error is assumed
SPREAD_RATIO = 0.15  # how far behind the best a name may be
MAX_BESIDE = 5000  # files of a folder whose names are compared
MAX_COMPARED_NAMES = 2000  # in full; more are first narrowed by their last segment


def nearest(name: str, known: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """Return at most `count` known names nearest to a name or pattern, the best first.

    Dotted paths are near if they are as a whole or in their last segment. Wildcards are ignored.
    """
    names = list(dict.fromkeys(known))
    plain = re.sub(r"[*?\\{}()\[\]^$|+]", "", name.removeprefix("re:")).strip(".")
    if not plain:
        return ()
    last = plain.rpartition(".")[2]
    if len(names) > MAX_COMPARED_NAMES:
        by_last: dict[str, list[str]] = {}
        for known_name in names:
            by_last.setdefault(known_name.rpartition(".")[2], []).append(known_name)
        close = difflib.get_close_matches(last, by_last, n=5, cutoff=CUTOFF_RATIO)
        names = [
            known_name for segment in close for known_name in by_last[segment][:MAX_COMPARED_NAMES]
        ]
    scored = [(_closeness(plain, last, known_name), known_name) for known_name in names]
    best = max((closeness for closeness, _ in scored), default=0.0)
    least = max(CUTOFF_RATIO, best - SPREAD_RATIO)
    good = sorted((pair for pair in scored if pair[0] >= least), key=lambda pair: -pair[0])
    return tuple(known_name for _, known_name in good[:count])


def _closeness(plain: str, last: str, known: str) -> float:
    known_last = known.rpartition(".")[2]
    whole = difflib.SequenceMatcher(None, plain.lower(), known.lower()).ratio()
    tail = difflib.SequenceMatcher(None, last.lower(), known_last.lower()).ratio()
    return (whole + 2 * max(whole, tail)) / 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x' or 'y'?`, or nothing if no known name is near."""
    return in_question(nearest(name, known))


def mistyped(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for names that differ by a letter or two, else nothing."""
    near = [
        known_name
        for known_name in nearest(name, known)
        if difflib.SequenceMatcher(None, name.lower(), known_name.lower()).ratio() >= ALIKE_RATIO
    ]
    return in_question(near)


def in_question(names: Sequence[str]) -> str:
    """Return `did you mean 'x' or 'y'?`, or nothing without names."""
    if not names:
        return ""
    quoted = [repr(name) for name in names]
    *first, final = quoted
    return f"did you mean {', '.join(first)} or {final}?" if first else f"did you mean {final}?"


def file_near(file: Path, *, of_kind: bool = False) -> str:
    """Return `did you mean 'x'?` for the file of the same folder with the nearest name.

    A file `of_kind` has the same ending.
    """
    try:
        beside = sorted(other.name for other in islice(file.parent.iterdir(), MAX_BESIDE))
    except (OSError, ValueError):  # there is no such folder, or it cannot be read
        return ""
    stem = file.stem.lower()
    # endings are alike in most files of a folder, and alone make no name near
    beside = [
        name
        for name in beside
        if difflib.SequenceMatcher(None, stem, Path(name).stem.lower()).ratio() >= CUTOFF_RATIO
        and (not of_kind or Path(name).suffix == file.suffix)
    ]
    close = difflib.get_close_matches(file.name, beside, n=1, cutoff=CUTOFF_RATIO)
    return f"did you mean {close[0]!r}?" if close else ""

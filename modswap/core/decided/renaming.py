"""Find the renamings that make the names of a file those of a model."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from modswap.core.asked.renames import Rename, renamed

Shape = tuple[int, ...]
MAX_RULES = 8  # renamings in one answer
MAX_TRIED = 24  # candidates that are tried for each of them
MAX_LOOKED_AT = 40  # missing names from which candidates are made
MAX_PAIRS = 60  # names of the file that each of them is compared with


def found_renames(
    stored: Mapping[str, Shape], wanted: Mapping[str, Shape], known: frozenset[str] = frozenset()
) -> tuple[tuple[Rename, ...], ...]:
    """Return the sets of renamings after which a file holds all of a model's tensors.

    `stored` and `wanted` are the shapes of the file's and of the model's tensors; names that are
    `known` need no place in the file. Each answer was tried: no tensor is missing, and no shape
    differs. The simplest come first; there are several where they fit alike.
    """
    answers = []
    for rename in _first(stored, wanted, known):
        rules = _completed((rename,), stored, wanted, known)
        if rules is not None:
            answers.append(rules)
    fewest = min(map(len, answers), default=0)
    return tuple(dict.fromkeys(rules for rules in answers if len(rules) == fewest))


def _completed(
    rules: tuple[Rename, ...],
    stored: Mapping[str, Shape],
    wanted: Mapping[str, Shape],
    known: frozenset[str],
) -> tuple[Rename, ...] | None:
    """Return renamings that leave nothing missing and begin with some; None if none are found."""
    while True:
        left = _missing(rules, stored, wanted, known)
        if left is None or len(rules) > MAX_RULES:
            return None
        if not left:
            return rules
        now = {renamed(name, rules): shape for name, shape in stored.items()}
        best = next(iter(_first(now, wanted, known)), None)
        if best is None:
            return None
        rules = (*rules, best)


def _missing(
    rules: tuple[Rename, ...],
    stored: Mapping[str, Shape],
    wanted: Mapping[str, Shape],
    known: frozenset[str],
) -> set[str] | None:
    """Return the names that stay missing; None if a shape differs, or two names become one."""
    now: dict[str, Shape] = {}
    for name, shape in stored.items():
        new = renamed(name, rules)
        if new in now and new in wanted:
            return None
        now[new] = shape
    if any(now[name] != shape for name, shape in wanted.items() if name in now):
        return None
    return {name for name in wanted if name not in now and name not in known}


def _first(
    stored: Mapping[str, Shape], wanted: Mapping[str, Shape], known: frozenset[str]
) -> list[Rename]:
    """Return the renamings that fill most of what is missing, those that fill the same together."""
    before = _missing((), stored, wanted, known)
    if before is None:
        before = {name for name in wanted if name not in stored and name not in known}
    counts = Counter(islice(_candidates(stored, wanted, before), MAX_LOOKED_AT * MAX_PAIRS))
    tried: dict[Rename, int] = {}
    for rename, _ in counts.most_common(MAX_TRIED):
        left = _missing((rename,), stored, wanted, known)
        if left is not None and len(left) < len(before):
            tried[rename] = len(left)
    least = min(tried.values(), default=0)
    return [rename for rename, left in tried.items() if left == least]


def _candidates(
    stored: Mapping[str, Shape], wanted: Mapping[str, Shape], missing: set[str]
) -> Iterator[Rename]:
    """Yield renamings that would give a missing tensor the one of the same shape and near name."""
    free: dict[tuple[str, Shape], list[str]] = {}
    for name, shape in stored.items():
        if name not in wanted:
            place, _, leaf = name.rpartition(".")
            free.setdefault((leaf, shape), []).append(name)
            free.setdefault((f"{place}.", shape), []).append(name)
    for name in islice(sorted(missing), MAX_LOOKED_AT):
        place, _, leaf = name.rpartition(".")
        others = free.get((leaf, wanted[name])) or free.get((f"{place}.", wanted[name]), [])
        own = name.split(".")
        found = [other.split(".") for other in others]
        found.sort(key=lambda segments: -_common(segments[::-1], own[::-1]))
        for segments in found[:MAX_PAIRS]:
            yield from _between(segments, own)


def _between(old: list[str], new: list[str]) -> Iterator[Rename]:
    """Yield the renamings that turn one name into another: of its beginning, or inside it."""
    end = _common(old[::-1], new[::-1])
    heads = old[: len(old) - end], new[: len(new) - end]
    yield Rename(*("".join(f"{segment}." for segment in head) for head in heads))
    start = _common(*heads)
    if start:
        inner = ["".join(f".{segment}" for segment in head[start:]) for head in heads]
        yield Rename(*(f"{text}." for text in inner))


def _common(a: list[str], b: list[str]) -> int:
    """Return the number of segments that two lists begin with alike."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((n for n, (one, other) in pairs if one != other), min(len(a), len(b)))

"""The differences between two checkpoints as lines and tables."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace

from rich.table import Table
from rich.text import Text

from modswap.core.kept.difference import (
    DiffResult,
    EntryChange,
    Lone,
    TensorPair,
)
from modswap.report.difference.distances import SHOWN_LINES, distances
from modswap.report.folded_names import folded
from modswap.report.page import Page, bare, human_bytes
from modswap.report.tamed import tamed

_LABELS = {"container": "file"}  # of kinds of values, where they have other names
_OF_MODULES = ("setting", "version")  # kinds of values


def diff_table(found: DiffResult, page: Page) -> str:
    """Return a difference as lines and tables, many tensors of one kind on one line."""
    return page.render(_parts(tamed(found), page))


def _parts(found: DiffResult, page: Page) -> Iterator[Text | Table]:
    for label, side in (("A", found.a), ("B", found.b)):
        sizes = f"{_count(side.tensors, 'tensor')}, {human_bytes(side.nbytes)}"
        yield Text.assemble(
            (f"{label}  ", "bold"), f"{side.file}  ", (f"{side.format}, {sizes}", "dim")
        )
    notes = [found.headline, *found.notes] if found.headline else found.notes
    yield from (Text.assemble(("note  ", "yellow"), note) for note in notes)
    lines = list(difference_lines(found, page))
    if lines:
        yield _table(lines)
    far = far_apart(found)
    if far:
        yield Text()
        yield from distances(far, page)
    yield last_line(found)


def far_apart(found: DiffResult) -> list[TensorPair]:
    """Return the pairs whose values were compared and differ."""
    return [pair for pair in found.changed if pair.spread is not None and not pair.equal]


def last_line(found: DiffResult) -> Text:
    """Return whether the two are equal, with the counts of their differences."""
    if found.equal:
        entries = (
            f", {_count(found.compared_entries, 'other value')}" if found.part == "all" else ""
        )
        what = {"all": "", "structure": " in structure", "values": " in values"}[found.part]
        return Text.assemble(
            ("EQUAL  ", "bold green"), f"{_count(len(found.pairs), 'tensor')}{entries}{what}"
        )
    names = {
        "changed": "tensors changed", "added": "tensors added", "removed": "tensors removed",
        "moved": "tensors moved", "modules": "modules differ", "entries": "other values differ",
    }  # fmt: skip
    counts = [
        f"{number:,} {_singular(names[key], number)}"
        for key, number in found.counts.items()
        if number
    ]
    return Text.assemble(("DIFFERENT  ", "bold red"), ", ".join(counts))


def _singular(words: str, number: int) -> str:
    if number != 1:
        return words
    one = {"modules differ": "module differs", "other values differ": "other value differs"}
    return one.get(words) or words.replace("tensors", "tensor")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


Line = tuple[str, str, str]  # the kind of difference, the name, and the words about it


def _table(lines: Iterable[Line]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def difference_lines(found: DiffResult, page: Page) -> Iterator[Line]:
    """Yield all differences but the distances of values."""
    shown = found if page.verbose else _outside(found)
    kinds: list[list[Line]] = [
        _modules(shown.gone, found.removed, "- module", page),
        _modules(shown.come, found.added, "+ module", page),
        _class_lines(found),
        _folded(shown.removed, (pair.a for pair in found.pairs), "- tensor", page),
        _folded(shown.added, (pair.b for pair in found.pairs), "+ tensor", page),
        _moves(found.moved, page),
        _facts(found.changed, found, page),
        _entries(shown.entries, page),
    ]
    for lines in kinds:
        listed = lines if page.verbose else lines[:SHOWN_LINES]
        yield from listed
        if len(listed) < len(lines):
            yield "", f"and {len(lines) - len(listed):,} more lines; -v lists all", ""


def _modules(lone: Sequence[Lone], tensors: Sequence[Lone], label: str, page: Page) -> list[Line]:
    """Return modules that one side has, with how many tensors are in each."""
    counts = _counts_inside(tensors)
    rows = []
    for one in lone:
        count = counts[one.name]
        words = f"{bare(one.what)}, {_count(count, 'tensor')}" if count else bare(one.what)
        rows.append((one.name, words))
    return [(label, group.words, group.key) for group in folded(rows, verbose=page.verbose)]


def _outside(found: DiffResult) -> DiffResult:
    """Return a difference without what is in modules that are listed as a whole."""
    changed = [one for one in found.classes if one.old != one.new]
    classes_a, classes_b = {one.a for one in changed}, {one.b for one in changed}
    of_a = classes_a.union(one.name for one in found.gone)
    of_b = classes_b.union(one.name for one in found.come)
    modules = of_a | of_b
    return replace(
        found,
        gone=_not_in(found.gone, classes_a),
        come=_not_in(found.come, classes_b),
        removed=_not_in(found.removed, of_a),
        added=_not_in(found.added, of_b),
        entries=tuple(one for one in found.entries if not _is_setting_in(one, modules)),
    )


def _is_setting_in(one: EntryChange, modules: Set[str]) -> bool:
    return one.kind in _OF_MODULES and _is_in(one.name, modules)


def _not_in(lone: Sequence[Lone], modules: Set[str]) -> tuple[Lone, ...]:
    return tuple(one for one in lone if not _is_in(one.name, modules))


def _is_in(name: str, modules: Set[str]) -> bool:
    """Return whether a name is inside one of the modules; all are in the model itself."""
    return any(above in modules for above in _above(name))


def _above(name: str) -> Iterator[str]:
    """Yield the modules around a name, but the model itself."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _counts_inside(tensors: Sequence[Lone]) -> Counter[str]:
    """Return how many of the tensors are in each module."""
    return Counter(above for one in tensors for above in _above(one.name))


def _class_lines(found: DiffResult) -> list[Line]:
    removed, added = _counts_inside(found.removed), _counts_inside(found.added)
    lines = []
    for one in found.classes:
        path = one.a if one.a == one.b else f"{one.a} → {one.b}"
        classes = bare(one.old) if one.old == one.new else f"{bare(one.old)} → {bare(one.new)}"
        gone, come = removed[one.a], added[one.b]
        counts = f": tensors -{gone} +{come}" if one.old != one.new and (gone or come) else ""
        lines.append(("~ module", path or "(the model)", f"{classes}{counts}"))
    return lines


def _folded(lone: Sequence[Lone], others: Iterable[str], label: str, page: Page) -> list[Line]:
    """Return tensors that one side has: those of a whole module, or an optimizer, on one line.

    `others` are the names of the other tensors of that side.
    """
    if page.verbose:
        return [(label, one.name, _tie_words(one)) for one in lone]
    apart = Counter(_key(one.name) for one in lone if one.kind == "optimizer")
    rows = list(_roots([one for one in lone if one.kind != "optimizer"], others))
    return [(label, group.words, str(group.key)) for group in folded(rows)] + [
        (label, f"{key} ×{count}", "state of an optimizer") for key, count in apart.items()
    ]


def _roots(lone: Sequence[Lone], others: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the outermost modules that hold none of the others, and tensors beside others."""
    partly = {above for name in others for above in _above(name)}
    inside: dict[str, list[Lone]] = {}
    for one in lone:
        free = [above for above in _above(one.name) if above not in partly]
        inside.setdefault(free[-1] if free else one.name, []).append(one)
    for root, found in inside.items():
        ties = [one for one in found if one.same]
        if len(found) > 1 and not ties:
            yield root, f"{len(found)} tensors"
        else:
            yield from ((one.name, _tie_words(one)) for one in found)


def _tie_words(one: Lone) -> str:
    return f"{one.what}, the same tensor as {one.same}" if one.same else one.what


def _key(name: str) -> str:
    """Return the beginning of a name of an optimizer, `optimizer:state`."""
    return name.partition(".")[0]


def _moves(moved: Sequence[TensorPair], page: Page) -> list[Line]:
    """Return the names that changed, those that changed in one way together."""
    how = {"content": "by values", "module": "with the module", "shape": "by shapes"}
    counts = Counter(
        (pair.a if page.verbose else "", _change(pair), how.get(pair.how, "")) for pair in moved
    )
    return [
        ("~ name", change, f"{_count(count, 'tensor')}, {by}")
        for (_, change, by), count in counts.items()
    ]


def _change(pair: TensorPair) -> str:
    """Return the beginning of a name that changed, and what it became."""
    one, other = pair.a.split("."), pair.b.split(".")
    while len(one) > 1 and len(other) > 1 and one[-1] == other[-1]:
        one.pop()
        other.pop()
    return f"{'.'.join(one)} → {'.'.join(other)}"


def _facts(changed: Sequence[TensorPair], found: DiffResult, page: Page) -> list[Line]:
    """Return dtypes and shapes that changed, and tensors whose numbers could not be read."""
    rows = []
    for pair in changed:
        if pair.old.shape != pair.new.shape:
            rows.append((pair.a, f"{pair.old.words} → {pair.new.words}"))
        elif pair.old.dtype != pair.new.dtype and found.part != "values":
            same = ", equal in float64" if pair.equal else ""
            rows.append((pair.a, f"{pair.old.dtype} → {pair.new.dtype}{same}"))
        elif pair.spread is None:
            rows.append((pair.a, f"bytes of {pair.old.dtype} differ, which have no distance"))
    groups = folded(rows, verbose=page.verbose)
    return [("~ tensor", group.words, str(group.key)) for group in groups]


def _entries(entries: Sequence[EntryChange], page: Page) -> list[Line]:
    """Return other values that differ; those of an optimizer on one side alone on one line."""
    lone = [one for one in entries if not page.verbose and _is_of_lone_optimizer(one)]
    rows = [
        (one.name, (one.kind, _entry_words(one)))
        for one in entries
        if page.verbose or not _is_of_lone_optimizer(one)
    ]
    counts = Counter((_key(one.name), "B" if one.old is None else "A") for one in lone)
    return [
        (f"~ {_LABELS.get(group.key[0], group.key[0])}", group.words, group.key[1])
        for group in folded(rows, verbose=page.verbose)
    ] + [
        ("~ optimizer", f"{key} ×{count}", f"only in {side}")
        for (key, side), count in counts.items()
    ]


def _is_of_lone_optimizer(one: EntryChange) -> bool:
    return one.kind == "optimizer" and None in {one.old, one.new}


def _entry_words(one: EntryChange) -> str:
    if one.old is None:
        return f"only in B: {one.new}"
    if one.new is None:
        return f"only in A: {one.old}"
    return f"{one.old} → {one.new}"

"""The differences between two checkpoints, for people and for programs."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict, replace
from typing import Any

from rich.table import Table
from rich.text import Text

from modswap.core.kept.difference import (
    ClassChange,
    DiffResult,
    EntryChange,
    Lone,
    Side,
    Spread,
    TensorPair,
)
from modswap.core.version import __version__
from modswap.report.folded_names import NameFold, folded
from modswap.report.page import Page, as_json, bare, human_bytes
from modswap.report.tamed import tamed

_LABELS = {"container": "file"}  # of kinds of values, where they have other names
_OF_MODULES = ("setting", "version")  # kinds of values
SHOWN_LINES = 20  # of each kind of difference, in a table that is not verbose


def diff_json(found: DiffResult) -> str:
    """Return a difference as one JSON object, with every tensor that differs."""
    data = {
        "schema": 1,
        "modswap": __version__,
        "command": "diff",
        "a": _side_as_data(found.a),
        "b": _side_as_data(found.b),
        "only": None if found.part == "all" else found.part,
        "equal": found.equal,
        "headline": found.headline or None,
        "counts": dict(found.counts),
        "compared": {"tensors": len(found.pairs), "entries": found.compared_entries},
        "modules": {
            "removed": [_lone_as_data(one) for one in found.gone],
            "added": [_lone_as_data(one) for one in found.come],
            "changed": [_class_as_data(one) for one in found.classes],
        },
        "tensors": {
            "removed": [_lone_as_data(one) for one in found.removed],
            "added": [_lone_as_data(one) for one in found.added],
            "moved": [{"from": p.a, "to": p.b, "by": p.how} for p in found.moved],
            "changed": [_pair_as_data(pair) for pair in found.changed],
        },
        "entries": [
            {"name": one.name, "kind": one.kind, "a": one.old, "b": one.new}
            for one in found.entries
        ],
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
    }
    return as_json(data)


def _side_as_data(side: Side) -> dict[str, Any]:
    return {
        "file": side.file,
        "format": side.format,
        "tensors": side.tensors,
        "bytes": side.nbytes,
    }


def _lone_as_data(one: Lone) -> dict[str, str | None]:
    return {"name": one.name, "what": one.what, "kind": one.kind, "same": one.same or None}


def _class_as_data(one: ClassChange) -> dict[str, str]:
    return {"path": one.a, "to": one.b, "old": one.old, "new": one.new}


def _pair_as_data(pair: TensorPair) -> dict[str, Any]:
    return {
        "name": pair.a,
        "to": pair.b,
        "kind": pair.old.kind,
        "dtype": [pair.old.dtype, pair.new.dtype],
        "shape": [list(pair.old.shape), list(pair.new.shape)],
        "equal": pair.equal,
        "values": None if pair.spread is None else _spread_as_data(pair.spread),
    }


def _spread_as_data(spread: Spread) -> dict[str, Any]:
    infinite = math.isinf(spread.max_abs)  # JSON has no infinity
    return {
        **asdict(spread),
        "max_abs": "infinite" if infinite else spread.max_abs,
        "share": spread.share,
    }


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
    lines = list(_lines(found, page))
    if lines:
        yield _table(lines)
    distances = [pair for pair in found.changed if pair.spread is not None and not pair.equal]
    if distances:
        yield Text()
        yield from _distances(distances, page)
    yield _last(found)


def _last(found: DiffResult) -> Text:
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


def _lines(found: DiffResult, page: Page) -> Iterator[Line]:
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


def _distances(pairs: Sequence[TensorPair], page: Page) -> Iterator[Table | Text]:
    """Yield a table of the distances, the largest first."""
    groups = folded([(pair.a, "") for pair in pairs], verbose=page.verbose)
    by_name = {pair.a: pair for pair in pairs}
    rows = [(_worst(group, by_name), group) for group in groups]
    rows.sort(key=lambda row: -row[0])
    shown = rows if page.verbose else rows[:SHOWN_LINES]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("values", overflow="fold")
    for title in ("max abs", "relative", "cosine", "changed"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for _, group in shown:
        spreads = [one.spread for name in group.names if (one := by_name[name]).spread is not None]
        table.add_row(group.words, *_numbers(spreads), _remarks(spreads))
    yield table
    left = sum(len(group.names) for _, group in rows[len(shown) :])
    if left:
        yield Text(f"and {left:,} more tensors, each less far apart; -v lists all", "dim")


def _worst(group: NameFold, pairs: dict[str, TensorPair]) -> float:
    """Return the largest relative distance in a group."""
    spreads = (pairs[name].spread for name in group.names)
    return max(math.inf if s is None or s.relative is None else s.relative for s in spreads)


def _numbers(spreads: Sequence[Spread]) -> tuple[str, str, str, str]:
    relative = [one.relative for one in spreads if one.relative is not None]
    cosine = [one.cosine for one in spreads if one.cosine is not None]
    changed, elements = sum(s.changed for s in spreads), sum(s.elements for s in spreads)
    return (
        f"{max(one.max_abs for one in spreads):.3g}",
        f"{max(relative):.3g}" if relative else "-",
        f"{min(cosine):.6f}" if cosine else "-",
        _percent(changed, elements),
    )


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.01:
        return "< 0.01 %"
    return f"{share:.3g} %" if part < whole or not whole else "100 %"


def _remarks(spreads: Sequence[Spread]) -> str:
    """Return in words what the numbers leave out."""
    remarks = [*_counted("NaN", [s.nan for s in spreads])]
    remarks += _counted("infinite", [s.infinite for s in spreads])
    if not remarks and any(one.changed and not one.max_abs for one in spreads):
        remarks.append("bits differ where values are equal (the sign of 0)")
    return "; ".join(remarks)


def _counted(what: str, counts: Sequence[tuple[int, int]]) -> Iterator[str]:
    a, b = map(sum, zip(*counts, strict=True))
    if a or b:
        yield f"{what}: {a:,} in A, {b:,} in B"

"""The table of the distances between the values of two checkpoints."""

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from modswap.core.kept.difference import Spread, TensorPair
from modswap.report.folded_names import NameFold, folded
from modswap.report.page import Page

SHOWN_LINES = 20  # of each kind of difference, in a table that is not verbose


DistanceRow = tuple[str, tuple[str, str, str, str], str]  # names, numbers, remarks
TITLES = ("max abs", "relative", "cosine", "changed")  # of the numbers


def distances(pairs: Sequence[TensorPair], page: Page) -> Iterator[Table | Text]:
    """Yield a table of the distances, the largest first."""
    rows = ranked(pairs, verbose=page.verbose)
    shown = rows if page.verbose else rows[:SHOWN_LINES]
    by_name = {pair.a: pair for pair in pairs}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("values", overflow="fold")
    for title in TITLES:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for group in shown:
        name, numbers, remarks = distance_row(group, by_name)
        table.add_row(name, *numbers, remarks)
    yield table
    left = sum(len(group.names) for group in rows[len(shown) :])
    if left:
        yield Text(f"and {left:,} more tensors, each less far apart; -v lists all", "dim")


def ranked(pairs: Sequence[TensorPair], *, verbose: bool = False) -> list[NameFold]:
    """Return the names of pairs in groups, those that are furthest apart first."""
    by_name = {pair.a: pair for pair in pairs}
    groups = folded([(pair.a, "") for pair in pairs], verbose=verbose)
    return sorted(groups, key=lambda group: -_worst(group, by_name))


def distance_row(group: NameFold, pairs: Mapping[str, TensorPair]) -> DistanceRow:
    """Return the names of a group, its numbers and remarks; `pairs` are those of all names."""
    spreads = [one.spread for name in group.names if (one := pairs[name]).spread is not None]
    return group.words, _numbers(spreads), _remarks(spreads)


def _worst(group: NameFold, pairs: Mapping[str, TensorPair]) -> float:
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

"""The table of the distances between the values of two checkpoints."""

import math
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from modswap.core.kept.difference import Spread, TensorPair
from modswap.report.folded_names import NameFold, folded
from modswap.report.page import Page

SHOWN_LINES = 20  # of each kind of difference, in a table that is not verbose


def distances(pairs: Sequence[TensorPair], page: Page) -> Iterator[Table | Text]:
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

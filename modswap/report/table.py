"""The outcome for people at a terminal: the verdict first, then all in few lines.

A verbose page has every detail as well.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from modswap.core.kept.outcome import Outcome
from modswap.report.healing import healing_lines, healing_parts
from modswap.report.page import Page, human_bytes
from modswap.report.summary.cost import costs_of
from modswap.report.summary.findings import FAILS, SKIPS, WARNS, Remark, counted, remarks_of
from modswap.report.summary.sections import SECTIONS
from modswap.report.summary.sites import site_lines
from modswap.report.summary.verdict import headline_of
from modswap.report.tamed import tamed
from modswap.report.terminal.details import (
    ledger_table,
    ledger_words,
    parameter_groups,
    site_details,
)
from modswap.report.terminal.layout import unbroken, wrapped
from modswap.report.terminal.sites import site_table
from modswap.report.terminal.verification import verification

SHOWN_DIGITS = 12  # of a digest
SHOWN_REMARKS = 12  # of one kind
_STYLES = {FAILS: "bold red", WARNS: "yellow", SKIPS: "dim"}
Part = Iterator[RenderableType]


def table_report(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return outcomes in lines and tables, a blank line between them."""
    return "\n".join(page.render(_parts(tamed(outcome), page)) for outcome in outcomes)


def _parts(outcome: Outcome, page: Page) -> Part:
    for name in SECTIONS:
        yield from _SECTIONS[name](outcome, page)


def _label(name: str) -> Text:
    return Text(f"{name:<9}", "cyan")


def _verdict(outcome: Outcome, page: Page) -> Part:
    headline = headline_of(outcome)
    style = "bold green" if headline.ok else "bold red"
    yield from wrapped(Text.assemble((headline.label, style), "  "), headline.text, page)


def _written(outcome: Outcome, page: Page) -> Part:
    written = outcome.written
    if written is None:
        return
    digest = written.sha256 if page.verbose else f"{written.sha256[:SHOWN_DIGITS]}…"
    size = human_bytes(written.nbytes)
    said = f"{written.file}, {size}, {written.format}, sha256 {digest}"
    yield from wrapped(_label("written"), said, page)


def _cost(outcome: Outcome, page: Page) -> Part:
    costs = costs_of(outcome)
    if not costs:
        return
    label = _label("cost")
    forms = (
        ", ".join(cost.full for cost in costs),
        ", ".join(cost.short for cost in costs),
        ", ".join(cost.shortest for cost in costs),
    )
    fitting = (form for form in forms if label.cell_len + len(form) <= page.width)
    yield from wrapped(label, forms[0] if page.verbose else next(fitting, forms[-1]), page)


def _healing(outcome: Outcome, page: Page) -> Part:
    if outcome.healing is None:
        return
    for number, line in enumerate(healing_lines(outcome.healing)):
        yield from wrapped(_label("" if number else "healing"), line, page)
    if page.verbose:
        yield from healing_parts(outcome.healing)


def _sites(outcome: Outcome, page: Page) -> Part:
    if not outcome.sites:
        return
    yield Text()
    yield from site_table(site_lines(outcome.sites, fold=not page.verbose), page)
    yield Text()
    if page.verbose:
        yield from site_details(outcome.sites, page)


def _tensors(outcome: Outcome, page: Page) -> Part:
    ledger = outcome.ledger
    if ledger is None or not outcome.ok:
        return
    if not page.verbose:
        yield from wrapped(_label("tensors"), ledger_words(ledger, outcome.sites), page)
        return
    yield ledger_table(ledger, outcome.sites)
    yield from parameter_groups(outcome, page)


def _findings(outcome: Outcome, page: Page) -> Part:
    if page.verbose and outcome.verdict is not None:
        yield from verification(outcome.verdict, page)
    remarks = remarks_of(outcome)
    for mark in (FAILS, WARNS, SKIPS):
        alike = [remark for remark in remarks if remark.mark == mark]
        shown = alike if page.verbose else alike[:SHOWN_REMARKS]
        for remark in shown:
            yield from _remark(remark, page)
        if len(alike) > len(shown):
            more = f"{mark} … and {len(alike) - len(shown):,} more: -v lists them"
            yield Text(page.said(more), _STYLES[mark])


def _remark(remark: Remark, page: Page) -> Part:
    style = _STYLES[remark.mark]
    yield from wrapped(Text(f"{page.said(remark.mark)} ", style), remark.text, page)
    fix = remark.fix.splitlines()
    if len(fix) == 1:
        yield from wrapped(Text("  fix: ", "dim"), fix[0], page)
        return
    yield from (unbroken(Text(f"    {page.said(line)}")) for line in fix)  # lines to copy


def _counts(outcome: Outcome, page: Page) -> Part:
    said = counted(outcome)
    if said:
        details = "" if page.verbose else " (-v shows each)"
        yield from wrapped(Text(), f"{said}{details}", page)


_SECTIONS: Mapping[str, Callable[[Outcome, Page], Part]] = {
    "verdict": _verdict,
    "written": _written,
    "cost": _cost,
    "healing": _healing,
    "sites": _sites,
    "tensors": _tensors,
    "findings": _findings,
    "counts": _counts,
}

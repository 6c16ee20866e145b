"""A healing in reports: agreements by stage, comparisons to judge them by, errors by site."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from modswap.core.healed.agreement import Agreement
from modswap.core.healed.healing import Healing, SiteHealing, StageResult

SHOWN_SITES = 12


def healing_words(healing: Healing) -> str:
    """Return the result in a few words: `top-1 .081 → .998`."""
    before, after = (_number(one.value) for one in (healing.before, healing.after))
    return f"{healing.after.metric} {before} → {after}"


def healing_lines(healing: Healing) -> Iterator[str]:
    """Yield the result in few lines: agreements, comparisons, other numbers, the samples."""
    controls = (f"{one.name} {_number(one.agreement.value)}" for one in healing.controls)
    beside = f"; beside it: {', '.join(controls)}" if healing.controls else ""
    yield f"{healing_words(healing)}{beside}"
    for one in healing.measured:
        yield (
            f"{one.name} {_number(one.original)} original, {_number(one.before)} swapped, "
            f"{_number(one.after)} healed"
        )
    yield f"{healing.samples}: {healing.learned} to learn from, {healing.held} held out to judge"


def healing_parts(healing: Healing) -> Iterator[RenderableType]:
    """Yield the tables of a verbose report: agreements by stage, errors by site."""
    yield _agreements(healing)
    if healing.sites:
        yield _sites(healing.sites)


def _agreements(healing: Healing) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("agreement", overflow="fold")
    table.add_column(healing.before.metric, justify="right")
    sure = healing.before.confident is not None
    if sure:
        table.add_column("confident half", justify="right")
    table.add_column("error", justify="right")
    table.add_column("s", justify="right")
    table.add_column("", overflow="fold")

    def row(
        name: str, found: Agreement, style: str = "", seconds: str = "", note: str = ""
    ) -> None:
        cells = [_number(found.value)]
        if sure:
            cells.append("" if found.confident is None else _number(found.confident))
        cells += [_error(found.error), seconds]
        table.add_row(Text(name, style), *cells, Text(note, "dim"))

    row("swapped", healing.before)
    for stage in healing.stages:
        row(f"  {stage.stage}", stage.agreement, "dim", f"{stage.seconds:.1f}", _said(stage))
    row("healed", healing.after, "bold green")
    for control in healing.controls:
        row(f"beside: {control.name}", control.agreement, "cyan")
    return table


def _said(stage: StageResult) -> str:
    if not stage.note:
        return "nothing better"
    return stage.note if stage.kept else f"{stage.note}; taken back"


def _sites(sites: Sequence[SiteHealing]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("site", overflow="fold")
    table.add_column("error at the site", justify="right")
    table.add_column("its own mechanism's share", justify="right")
    for site in sites[:SHOWN_SITES]:
        share = "" if site.share is None else _number(site.share)
        table.add_row(site.path, f"{_error(site.before)} → {_error(site.after)}", share)
    if len(sites) > SHOWN_SITES:
        table.add_row(f"… and {len(sites) - SHOWN_SITES} more, in the JSON report", "", "")
    return table


def _number(value: float) -> str:
    return f"{value:.3f}"


def _error(value: float) -> str:
    return f"{value:.2g}"


def healing_as_data(healing: Healing | None) -> dict[str, Any] | None:
    """Return a healing as plain data, for programs."""
    return None if healing is None else _finite(asdict(healing))


def _finite(value: Any) -> Any:
    """Return plain data with None in the place of numbers that JSON has no room for."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value

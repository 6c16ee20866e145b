"""All that is known of the sites and the tensors, for `--verbose`."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modswap.core.healed.healing import HEALED
from modswap.core.kept.outcome import Amount, Ledger, Outcome, SiteOutcome
from modswap.core.seen.site import Call
from modswap.report.page import Page, human_bytes
from modswap.report.summary.findings import all_places, places
from modswap.report.terminal.layout import unbroken, wrapped


def site_details(sites: Sequence[SiteOutcome], page: Page) -> Iterator[RenderableType]:
    """Yield calls, other paths, chosen values and the origin of the weights."""
    for site in sites:
        yield from _site(site, page)
    yield from _chosen(sites, page)
    yield from _begun(sites, page)


def _site(site: SiteOutcome, page: Page) -> Iterator[Text]:
    yield unbroken(Text(page.said(site.path), "cyan"))
    parts = [*dict.fromkeys(map(_call, site.calls))]
    parts += [f"{len(site.calls)} calls"] if len(site.calls) > 1 else []
    parts += [f"layout {site.layout}"] if site.layout else []
    parts += [f"also {alias}" for alias in site.aliases]
    parts += [f"one instance with {other}" for other in site.shared_with]
    for part in (*parts, f"by {site.rule}"):
        yield from wrapped(Text("  "), part, page)


def _call(call: Call) -> str:
    given, got = ", ".join(map(str, call.inputs)), str(call.output)
    return f"{given}, kept" if given == got else f"{given} → {got}"


def _chosen(sites: Sequence[SiteOutcome], page: Page) -> Iterator[RenderableType]:
    """Yield the chosen values with their reasons; sites with the same choices share a line."""
    groups: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for site in sites:
        values = tuple((c.name, str(c.value), c.reason) for c in site.choices)
        groups.setdefault(values, []).append(site.new_path or site.path)
    for choices, paths in groups.items():
        if not choices:
            continue
        yield from wrapped(Text("chosen  ", "cyan"), ", ".join(all_places(paths)), page)
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value, reason in choices:
            table.add_row(f"{name}: {value}", Text(reason, "dim"))
        yield Padding(table, (0, 0, 0, 2))


def _begun(sites: Sequence[SiteOutcome], page: Page) -> Iterator[RenderableType]:
    """Yield where new weights come from, and those that began fresh, where some did not."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for site in sites:
        if site.mapped and site.start != HEALED:
            groups.setdefault((site.mapped, site.fresh), []).append(site.path)
    for (mapped, fresh), paths in groups.items():
        yield from wrapped(Text("mapped  ", "cyan"), ", ".join(all_places(paths)), page)
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        for name, source in mapped:
            table.add_row(name, Text(f"from {source}", "dim"))
        if fresh:
            table.add_row(", ".join(fresh), Text("fresh", "yellow"))
        yield Padding(table, (0, 0, 0, 2))


def ledger_words(ledger: Ledger, sites: Sequence[SiteOutcome]) -> str:
    """Return the numbers of tensors in a line."""
    gated = bool(sites) and all(site.start == "preserve" for site in sites)
    train = "behind gates of 0" if gated else "to be trained"
    parts = [f"{ledger.kept.tensors:,} kept{', equal bit for bit' if ledger.proved else ''}"]
    parts += [f"{ledger.mapped.tensors:,} mapped"] if ledger.mapped.tensors else []
    parts += [f"{ledger.fresh.tensors:,} fresh, {train}"] if ledger.fresh.tensors else []
    parts += [f"{ledger.dropped.tensors:,} dropped"] if ledger.dropped.tensors else []
    return "; ".join(parts)


def ledger_table(ledger: Ledger, sites: Sequence[SiteOutcome]) -> Table:
    """Return the tensors kept, mapped, fresh and dropped, with their sizes."""
    made = any(site.mapped for site in sites)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("tensors")
    table.add_column("count", justify="right")
    table.add_column("size", justify="right")
    table.add_column("")
    kept = "compared with the file written: equal bit for bit" if ledger.proved else ""
    rows: list[tuple[str, Amount, str]] = [
        ("kept", ledger.kept, kept),
        ("mapped", ledger.mapped, "made of other weights" if made else ""),
        ("fresh", ledger.fresh, ""),
        ("dropped", ledger.dropped, ""),
    ]
    for name, amount, remark in rows:
        if amount.tensors or name != "mapped":
            size = human_bytes(amount.nbytes)
            table.add_row(name, f"{amount.tensors:,}", size, Text(remark, "dim"))
    return table


def parameter_groups(outcome: Outcome, page: Page) -> Iterator[Text]:
    """Yield the parameters that are new beside modules that stay, as groups for an optimizer."""
    if not any(site.place for site in outcome.sites):
        return
    paths = dict.fromkeys(f"{site.new_path or site.path}.*" for site in outcome.sites)
    new = len(outcome.fresh_parameters())
    said = f"{new:,} new parameters: {places([*paths])}; the others are the old ones"
    yield from wrapped(Text("groups  ", "cyan"), said, page)

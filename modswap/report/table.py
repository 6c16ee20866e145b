"""The outcome for people at a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modswap.core.errors import ModswapError
from modswap.core.healed.healing import HEALED, Healing
from modswap.core.kept.outcome import Amount, Ledger, Outcome, SiteOutcome, Written
from modswap.core.seen.site import Call
from modswap.report.healing import healing_parts, healing_words
from modswap.report.page import Page, change_parts, human_bytes, params_words
from modswap.report.tamed import tamed
from modswap.report.verification import verification

SHOWN_CALLS = 3
SHOWN_SITES = 4  # that a note is about


def table_report(outcomes: Sequence[Outcome], page: Page) -> str:
    """Return outcomes as tables and sentences, a blank line between them."""
    return "\n".join(page.render(_parts(tamed(outcome), page)) for outcome in outcomes)


def _parts(outcome: Outcome, page: Page) -> Iterator[RenderableType]:
    if outcome.sites:
        yield _sites(outcome.sites)
        yield from _chosen(outcome.sites)
        yield from _begun(outcome.sites)
        yield from _noted(outcome.sites)
    for note in dict.fromkeys(outcome.notes):
        yield Text.assemble(("note  ", "yellow"), note)
    if outcome.healing is not None:
        yield from healing_parts(outcome.healing)
    if outcome.verdict is not None:
        yield from verification(outcome.verdict, outcome.error, page)
    if outcome.ledger is not None and outcome.ok:
        yield _ledger(outcome.ledger, outcome.sites)
    if outcome.sites and outcome.ok:
        yield _totals(outcome)
        yield from _groups(outcome)
    if outcome.written is not None:
        yield _written(outcome.written)
    yield headline(outcome)


def headline(outcome: Outcome) -> Text:
    """Return the outcome in one line."""
    sites = f"{len(outcome.sites)} site{'s' if len(outcome.sites) != 1 else ''}"
    seconds = f" ({outcome.seconds:.1f} s)" if outcome.seconds else ""
    if outcome.error is not None:
        about = ", ".join(filter(None, (outcome.recipe, outcome.checkpoint)))
        said = Text.assemble(("FAILED", "bold red"), f"  {about}{seconds}")
        for error in outcome.error.all:
            said.append_text(_error(error))
        return said
    what = _done(outcome, sites)
    return Text.assemble(("OK", "bold green"), f"  {what}{seconds}")


def _done(outcome: Outcome, sites: str) -> str:
    """Return what a command did that held, in words; `sites` is their number."""
    if outcome.healing is not None and outcome.command == "heal":
        return _healed(outcome, outcome.healing, sites)
    if outcome.command == "revert":
        out = f"taken out of {outcome.checkpoint}"
        return f"{sites} {out}" if outcome.written else f"{sites} can be {out}; nothing was written"
    if outcome.command == "check":
        by = f" by {outcome.recipe}" if outcome.recipe else ""
        return f"the swap of {sites}{by} holds; nothing was written"
    if outcome.command == "finalize" and outcome.written is not None:
        return f"{sites} finalized in {outcome.checkpoint}"
    healed = f", {healing_words(outcome.healing)}" if outcome.healing is not None else ""
    if outcome.written is None:
        return f"the swap of {sites} holds{healed}; a dry run, nothing was written"
    return f"{sites} swapped in {outcome.checkpoint}{healed}"


def _healed(outcome: Outcome, healing: Healing, sites: str) -> str:
    dry = "" if outcome.written is not None else "; a dry run, nothing was written"
    count = len(healing.sites)
    if healing.exact:
        return f"{count} site{'s need' if count != 1 else ' needs'} no healing{dry}"
    if not outcome.sites:
        why = "broken off before" if healing.interrupted else "no stage brought"
        what = "anything was healed" if healing.interrupted else "it nearer to the original"
        return f"{outcome.checkpoint}: {why} {what}{dry}"
    return f"{sites} healed in {outcome.checkpoint}: {healing_words(healing)}{dry}"


def _error(error: ModswapError) -> Text:
    said = Text(f"\n  {error.where}: " if error.where else "\n  ")
    said.append(error.what, "bold")
    if error.fix:
        said.append(f"\n    fix: {error.fix}")
    return said


def _sites(sites: Sequence[SiteOutcome]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("site", overflow="fold", ratio=3)
    table.add_column("old → new", overflow="fold", ratio=3)
    table.add_column("input → output", overflow="fold", ratio=3)
    table.add_column("parameters", justify="right", overflow="fold")
    for site in sites:
        path = Text(site.path, "bold")
        for alias in site.aliases:
            path.append(f"\n= {alias}", "dim")
        for other in site.shared_with:
            path.append(f"\none instance with {other}", "dim")
        old, new, where = change_parts(site)
        change = Text.assemble(old, (new, "green"), where)
        table.add_row(path, change, _calls(site), params_words(site))
    return table


def _calls(site: SiteOutcome) -> Text:
    lines = list(dict.fromkeys(map(_call, site.calls)))
    shown = lines[:SHOWN_CALLS]
    if len(lines) > SHOWN_CALLS:
        shown.append(f"… {len(lines) - SHOWN_CALLS} other shapes")
    if len(site.calls) > 1:
        shown.append(f"{len(site.calls)} calls")
    if site.layout:
        shown.append(site.layout)
    return Text("\n".join(shown))


def _call(call: Call) -> str:
    given, got = ", ".join(map(str, call.inputs)), str(call.output)
    return f"{given}, kept" if given == got else f"{given} → {got}"


def _chosen(sites: Sequence[SiteOutcome]) -> Iterator[RenderableType]:
    """Yield the chosen values with their reasons; sites with the same choices share a line."""
    groups: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for site in sites:
        values = tuple((c.name, str(c.value), c.reason) for c in site.choices)
        groups.setdefault(values, []).append(site.new_path or site.path)
    for choices, paths in groups.items():
        if not choices:
            continue
        yield Text.assemble(("chosen  ", "cyan"), ", ".join(paths))
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value, reason in choices:
            table.add_row(f"{name}: {value}", Text(reason, "dim"))
        yield Padding(table, (0, 0, 0, 2))


def _begun(sites: Sequence[SiteOutcome]) -> Iterator[RenderableType]:
    """Yield where new weights come from, and those that began fresh, where some did not."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for site in sites:
        if site.mapped and site.start != HEALED:
            groups.setdefault((site.mapped, site.fresh), []).append(site.path)
    for (mapped, fresh), paths in groups.items():
        yield Text.assemble(("mapped  ", "cyan"), ", ".join(paths))
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        for name, source in mapped:
            table.add_row(name, Text(f"from {source}", "dim"))
        if fresh:
            table.add_row(", ".join(fresh), Text("fresh", "yellow"))
        yield Padding(table, (0, 0, 0, 2))


def _noted(sites: Sequence[SiteOutcome]) -> Iterator[Text]:
    """Yield the notes on sites, each once with all its sites."""
    alike: dict[str, list[str]] = {}
    for site in sites:
        for note in site.notes:
            alike.setdefault(note, []).append(site.new_path or site.path)
    for note, paths in alike.items():
        who = ", ".join(paths[:SHOWN_SITES])
        more = f" and {len(paths) - SHOWN_SITES} more" if len(paths) > SHOWN_SITES else ""
        yield Text.assemble(("note  ", "yellow"), f"{who}{more}: {note}")


def _ledger(ledger: Ledger, sites: Sequence[SiteOutcome]) -> Table:
    made = any(site.mapped for site in sites)
    gated = bool(sites) and all(site.start == "preserve" for site in sites)
    fresh = "newly initialised: train them before use"
    fresh = "behind gates of 0, which training opens" if gated else fresh
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("tensors")
    table.add_column("count", justify="right")
    table.add_column("size", justify="right")
    table.add_column("")
    kept = "compared with the file written: equal bit for bit" if ledger.proved else ""
    rows: list[tuple[str, Amount, str]] = [
        ("kept", ledger.kept, kept),
        ("mapped", ledger.mapped, "made of other weights" if made else ""),
        ("fresh", ledger.fresh, fresh if ledger.fresh.tensors else ""),
        ("dropped", ledger.dropped, ""),
    ]
    for name, amount, remark in rows:
        if amount.tensors or name != "mapped":
            size = human_bytes(amount.nbytes)
            table.add_row(name, f"{amount.tensors:,}", size, Text(remark, "dim"))
    return table


def _groups(outcome: Outcome) -> Iterator[Text]:
    """Yield the parameters that are new beside modules that stay, as groups for an optimizer."""
    if not any(site.place for site in outcome.sites):
        return
    places = dict.fromkeys(site.new_path or site.path for site in outcome.sites)
    shown = ", ".join(f"{path}.*" for path in [*places][:SHOWN_SITES])
    more = f" and {len(places) - SHOWN_SITES} more" if len(places) > SHOWN_SITES else ""
    new = len(outcome.fresh_parameters())
    said = f"{new:,} new parameters: {shown}{more}; the others are the old ones"
    yield Text.assemble(("groups  ", "cyan"), said)


def _totals(outcome: Outcome) -> Text:
    before, after = outcome.params_before, outcome.params_after
    percent = f" ({100 * (after - before) / before:+.1f} %)" if before else ""
    return Text(f"parameters  {before:,} → {after:,}{percent}")


def _written(written: Written) -> Text:
    size = human_bytes(written.nbytes)
    said = Text.assemble("written  ", (str(written.file), "bold"), f"  {size}, {written.format}")
    return said.append(f"\n  sha256 {written.sha256}", "dim")

"""A sweep as a table: the trials that hold, the smallest error first, and why others do not."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from modswap.core.decided.cost import count_text, size_text
from modswap.core.swept.record import SweepChoice, SweepResult, SweptCost, TrialResult
from modswap.report.folded_names import folded
from modswap.report.page import Page
from modswap.report.tamed import tamed

SHOWN_TRIALS = 40
SHOWN_REASONS = 8


def sweep_table(found: SweepResult, page: Page) -> str:
    """Return a sweep as tables and lines."""
    return page.render(_parts(tamed(found), page))


def _parts(found: SweepResult, page: Page) -> Iterator[RenderableType]:
    data = f"{found.samples}: {found.learned} to learn from, {found.held} held out to judge"
    yield Text.assemble(("data  ", "cyan"), data)
    for note in found.notes:
        yield Text.assemble(("note  ", "yellow"), note)
    yield Text.assemble(("before  ", "cyan"), f"{_cost(found.before)}, for {found.inputs}")
    if found.ranked:
        yield _trials(found, page)
    yield from _reasons(found.failed, page)
    if found.choice is not None:
        yield from _choice(found.choice)
    yield _last(found)


def _trials(found: SweepResult, page: Page) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    ranked = found.ranked
    several = len({one.trial.module for one in ranked}) > 1
    varied = any(one.trial.args for one in ranked)
    healed = any(one.healed is not None for one in ranked)
    table.add_column("site", overflow="fold")
    for name, shown in (("module", several), ("options", varied)):
        if shown:
            table.add_column(name, overflow="fold")
    for name in ("error", "params", "FLOPs", "memory", "ms", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    if healed:
        table.add_column("healed", justify="right", no_wrap=True)
    chosen = {one.trial.key for one in found.choice.results} if found.choice else set()
    for one in ranked if page.verbose else ranked[:SHOWN_TRIALS]:
        cells: list[str] = [one.trial.module] if several else []
        cells += [one.trial.words] if varied else []
        cells += [_error(one.error), *_added(one.added), f"{one.seconds:.1f}"]
        cells += ["" if one.healed is None else f"{one.healed.value:.3f}"] if healed else []
        table.add_row(one.trial.site, *cells, style="bold green" if one.trial.key in chosen else "")
    hidden = 0 if page.verbose else len(ranked) - SHOWN_TRIALS
    if hidden > 0:
        table.add_row(f"… and {hidden} more with larger errors; -v lists all")
    return table


def _error(error: float | None) -> str:
    return "" if error is None else f"{error:.2g}"


def _added(cost: SweptCost | None) -> list[str]:
    if cost is None:
        return [""] * 4
    counts = [_signed(count_text(abs(n)), n) for n in (cost.params, cost.flops)]
    memory = _signed(size_text(abs(cost.memory)), cost.memory)
    return [*counts, memory, f"{cost.latency:+.2f}"]


def _signed(text: str, value: float) -> str:
    return text if not value else f"{'-' if value < 0 else '+'}{text}"


def _reasons(failed: Sequence[TrialResult], page: Page) -> Iterator[Text]:
    """Yield the trials that do not hold, those of one reason together."""
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for one in failed:
        groups.setdefault((one.reason, one.fix), []).append(one)
    shown = list(groups.items())[: None if page.verbose else SHOWN_REASONS]
    for (reason, fix), alike in shown:
        advice = f"; {fix}" if fix else ""
        yield Text.assemble(("fails  ", "red"), f"{_together(alike)}: {reason}{advice}")
    if len(groups) > len(shown):
        yield Text(f"and {len(groups) - len(shown)} more reasons; -v lists all")


def _together(alike: Sequence[TrialResult]) -> str:
    """Return the sites and the options of trials, each once."""
    sites = folded((site, "") for site in dict.fromkeys(one.trial.site for one in alike))
    options = dict.fromkeys(f"{one.trial.module} {one.trial.words}".rstrip() for one in alike)
    listed = list(options)
    more = f" and {len(listed) - SHOWN_REASONS} more" if len(listed) > SHOWN_REASONS else ""
    return f"{', '.join(one.words for one in sites)} {', '.join(listed[:SHOWN_REASONS])}{more}"


def _named(one: TrialResult) -> str:
    return " ".join((one.trial.site, one.trial.module, one.trial.words)).rstrip()


def _choice(choice: SweepChoice) -> Iterator[Text]:
    for one in choice.results:
        yield Text.assemble(("chosen  ", "green"), f"{_named(one)}  ", (_error(one.error), "dim"))
    said = f"sum of errors {_error(choice.error)}, {_cost(choice.cost)}"
    yield Text.assemble(("with them  ", "cyan"), said)


def _cost(cost: SweptCost) -> str:
    return (
        f"{cost.params:,} parameters, {count_text(cost.flops)} FLOPs, "
        f"{size_text(cost.memory)}, {cost.latency:.2f} ms"
    )


def _last(found: SweepResult) -> Text:
    holding = len(found.ranked)
    said = f"{holding} of {found.planned} trials measured in {found.checkpoint or 'the model'}"
    if found.error is not None:
        error = found.error
        return Text.assemble(("FAILED  ", "bold red"), f"{error.line()}")
    if found.interrupted:
        return Text.assemble(("STOPPED  ", "bold yellow"), f"{said} ({found.seconds:.1f} s)")
    return Text.assemble(("OK  ", "bold green"), f"{said} ({found.seconds:.1f} s)")

"""A sweep as a table: the trials that hold, the smallest error first, and why others do not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from modswap.core.decided.cost import count_text, size_text
from modswap.core.swept.record import NO_COST, SweepChoice, SweepResult, SweptCost, TrialResult
from modswap.report.folded_names import folded
from modswap.report.page import Page
from modswap.report.tamed import tamed
from modswap.report.terminal.layout import columns, columns_width

SHOWN_TRIALS = 40
SHOWN_REASONS = 8


def sweep_table(found: SweepResult, page: Page) -> str:
    """Return a sweep as tables and lines."""
    return page.render(_parts(tamed(found), page))


def _parts(found: SweepResult, page: Page) -> Iterator[RenderableType]:
    yield verdict_line(found)
    data = f"{found.samples}: {found.learned} to learn from, {found.held} held out to judge"
    yield Text.assemble(("data  ", "cyan"), data)
    for note in found.notes:
        yield Text.assemble(("note  ", "yellow"), note)
    yield Text.assemble(("before  ", "cyan"), f"{cost_words(found.before)}, for {found.inputs}")
    if found.ranked:
        yield from _trials(found, page)
    if len(found.ranked) > SHOWN_TRIALS and not page.verbose:
        yield Text(f"and {len(found.ranked) - SHOWN_TRIALS} more with larger errors; -v lists all")
    yield from _reasons(found.failed, page)
    if found.choice is not None:
        yield from _choice(found.choice)


def _trials(found: SweepResult, page: Page) -> Iterator[RenderableType]:
    """Yield the table, without the columns that are the least asked for where the page is narrow.

    Sites, modules and options never break: what has no room goes past the margin.
    """
    ranked = found.ranked[: None if page.verbose else SHOWN_TRIALS]
    shown = [column for column in COLUMNS if column.is_shown(found.ranked)]
    spared = [name for name in SPARED if name in {column.name for column in shown}]
    left_out: list[str] = []
    while spared and not page.verbose and columns_width(_rows(shown, found, ranked)) > page.width:
        left_out.append(spared.pop(0))
        shown = [column for column in shown if column.name != left_out[-1]]
    numbers = [place for place, column in enumerate(shown) if not column.is_text]
    yield Text()
    yield from columns(_rows(shown, found, ranked), numbers)
    if left_out:
        yield Text(f"no room for {', '.join(reversed(left_out))}: -v shows all columns", "dim")
    yield Text()


def _rows(
    shown: Sequence["_Column"], found: SweepResult, ranked: Sequence[TrialResult]
) -> list[list[Text]]:
    chosen = {one.trial.key for one in found.choice.results} if found.choice else set()
    head = [Text(column.name, "bold") for column in shown]
    return [
        head,
        *(
            [
                Text(column.cell(one), "bold green" if one.trial.key in chosen else "")
                for column in shown
            ]
            for one in ranked
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table.

    Args:
        name: Its head.
        cell: Returns the text of a trial.
        is_text: Whether it holds words.
        is_shown: Returns whether it says anything of some trials.
    """

    name: str
    cell: Callable[[TrialResult], str]
    is_text: bool = False
    is_shown: Callable[[Sequence[TrialResult]], bool] = bool


def _several_modules(ranked: Sequence[TrialResult]) -> bool:
    return len({one.trial.module for one in ranked}) > 1


def _added(one: TrialResult) -> SweptCost:
    return one.added or NO_COST


def _counted(count: int) -> str:
    return _signed(count_text(abs(count)), count)


def _healed(one: TrialResult) -> str:
    return "" if one.healed is None else f"{one.healed.value:.3f}"


COLUMNS = (
    _Column("site", lambda one: one.trial.site, is_text=True),
    _Column("module", lambda one: one.trial.module, is_text=True, is_shown=_several_modules),
    _Column(
        "options",
        lambda one: one.trial.words,
        is_text=True,
        is_shown=lambda ranked: any(one.trial.args for one in ranked),
    ),
    _Column("error", lambda one: _error(one.error)),
    _Column("params", lambda one: _counted(_added(one).params)),
    _Column("FLOPs", lambda one: _counted(_added(one).flops)),
    _Column("memory", lambda one: _signed(size_text(abs(_added(one).memory)), _added(one).memory)),
    _Column("ms", lambda one: f"{_added(one).latency:+.2f}"),
    _Column("s", lambda one: f"{one.seconds:.1f}"),
    _Column("healed", _healed, is_shown=lambda ranked: any(map(_healed, ranked))),
)


# columns that a narrow page goes without, the first of them first
SPARED = ("s", "memory", "FLOPs", "ms", "params")


def _error(error: float | None) -> str:
    return "" if error is None else f"{error:.2g}"


def _signed(text: str, value: float) -> str:
    return text if not value else f"{'-' if value < 0 else '+'}{text}"


def _reasons(failed: Sequence[TrialResult], page: Page) -> Iterator[Text]:
    """Yield the trials that do not hold, those of one reason together."""
    groups = list(same_reasons(failed))
    shown = groups[: None if page.verbose else SHOWN_REASONS]
    for names, reason, fix in shown:
        advice = f"; {fix}" if fix else ""
        yield Text.assemble(("fails  ", "red"), f"{names}: {reason}{advice}")
    if len(groups) > len(shown):
        yield Text(f"and {len(groups) - len(shown)} more reasons; -v lists all")


def same_reasons(failed: Sequence[TrialResult]) -> Iterator[tuple[str, str, str]]:
    """Yield the trials of one reason in words, with the reason and its fix."""
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for one in failed:
        groups.setdefault((one.reason, one.fix), []).append(one)
    for (reason, fix), alike in groups.items():
        yield _together(alike), reason, fix


def _together(alike: Sequence[TrialResult]) -> str:
    """Return the sites and the options of trials, each once."""
    sites = folded((site, "") for site in dict.fromkeys(one.trial.site for one in alike))
    options = dict.fromkeys(f"{one.trial.module} {one.trial.words}".rstrip() for one in alike)
    listed = list(options)
    more = f" and {len(listed) - SHOWN_REASONS} more" if len(listed) > SHOWN_REASONS else ""
    return f"{', '.join(one.words for one in sites)} {', '.join(listed[:SHOWN_REASONS])}{more}"


def _choice(choice: SweepChoice) -> Iterator[Text]:
    for one in choice.results:
        error = (_error(one.error), "dim")
        yield Text.assemble(("chosen  ", "green"), f"{one.trial.name}  ", error)
    said = f"sum of errors {_error(choice.error)}, {cost_words(choice.cost)}"
    yield Text.assemble(("by the sites  ", "cyan"), said)
    if choice.together is not None:
        yield Text.assemble(("together  ", "cyan"), cost_words(choice.together))


def cost_words(cost: SweptCost) -> str:
    """Return a cost in words."""
    return (
        f"{cost.params:,} parameters, {count_text(cost.flops)} FLOPs, "
        f"{size_text(cost.memory)}, {cost.latency:.2f} ms"
    )


def verdict_line(found: SweepResult) -> Text:
    """Return the line that says how a sweep ended."""
    holding = len(found.ranked)
    said = f"{holding} of {found.planned} trials measured in {found.checkpoint or 'the model'}"
    if found.failed:
        said += f", {len(found.failed)} do{'es' if len(found.failed) == 1 else ''} not hold"
    if found.error is not None:
        error = found.error
        return Text.assemble(("FAILED  ", "bold red"), f"{error.line()}")
    if found.interrupted:
        return Text.assemble(("STOPPED  ", "bold yellow"), f"{said} ({found.seconds:.1f} s)")
    return Text.assemble(("OK  ", "bold green"), f"{said} ({found.seconds:.1f} s)")

"""A sweep as a page of HTML: what was tried, what it costs, what to take, and every trial."""

from base64 import b64encode
from collections.abc import Iterator

from modswap.core.swept.record import SweepResult, TrialResult
from modswap.core.words.printable import tame_lines
from modswap.report.page import Page
from modswap.report.swept.plot import sweep_svg
from modswap.report.swept.table import COLUMNS, cost_words, same_reasons, verdict_line
from modswap.report.tamed import tamed

SHOWN_ROWS = 5000
_PLOTTED = "flops"


def sweep_html(found: SweepResult, page: Page) -> str:
    """Return a sweep as a page; its plot is that of the errors against added FLOPs."""
    # its import takes a tenth of a second, which the other forms do not need
    from modswap.report.web.frame import framed

    recipe = tame_lines(found.recipe)
    found = tamed(found)
    columns = [column for column in COLUMNS if column.is_shown(found.ranked)]
    head, _, words = verdict_line(found).plain.partition("  ")
    chosen = {one.trial.key for one in found.choice.results} if found.choice else set()
    return framed(
        "swept.html",
        title=f"modswap sweep: {found.checkpoint or 'a model'}",
        found=found,
        head=head,
        words=words,
        before=cost_words(found.before),
        chosen=[_name(one) for one in found.choice.results] if found.choice else [],
        choice_cost=cost_words(found.choice.cost) if found.choice else "",
        together=_together(found),
        steps=list(_steps(found, page)),
        plot=_plot(found),
        columns=columns,
        rows=[
            (one.trial.key in chosen, [column.cell(one) for column in columns])
            for one in found.ranked[:SHOWN_ROWS]
        ],
        left=max(len(found.ranked) - SHOWN_ROWS, 0),
        recipe=recipe,
        reasons=list(same_reasons(found.failed))[:SHOWN_ROWS],
    )


def _name(one: TrialResult) -> str:
    return " ".join((one.trial.site, one.trial.module, one.trial.words)).rstrip()


def _together(found: SweepResult) -> str:
    together = found.choice.together if found.choice else None
    return "" if together is None else cost_words(together)


def _plot(found: SweepResult) -> str:
    """Return the plot as the address of a picture; empty without a trial that holds."""
    if not found.ranked:
        return ""
    svg = sweep_svg(found, _PLOTTED).encode("utf-8")
    return f"data:image/svg+xml;base64,{b64encode(svg).decode('ascii')}"


def _steps(found: SweepResult, page: Page) -> Iterator[tuple[str, str]]:
    """Yield what to do next, each with its command; empty where there is none."""
    from modswap.report.web.again import shell_line

    if found.error is not None:
        yield found.error.fix or "See the reasons below", ""
    elif found.interrupted:
        words = page.args if "--resume" in page.args else (*page.args, "--resume", "sweep.jsonl")
        yield "Go on with the trials that are left", shell_line("modswap", *words)
    elif found.choice is not None and found.recipe:
        line = shell_line("modswap", "replace", found.checkpoint, "-c", "RECIPE", "-o", "OUT")
        yield "Save the recipe below as RECIPE, swap by it, then heal", line
    elif found.ranked:
        best = found.ranked[0].trial
        settings = {**best.base, **best.args}
        options = [word for name in settings for word in ("--set", f"{name}={settings[name]}")]
        words = ("--match", best.site, "--with", best.module, *options, "-o", "OUT")
        yield (
            "Take the trial with the smallest error, then heal",
            shell_line("modswap", "replace", found.checkpoint or "FILE", *words),
        )

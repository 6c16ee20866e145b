"""A sweep as a page of HTML: what was tried, what it costs, what to take, and every trial."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modswap.core.asked.patterns import pattern_of
from modswap.core.swept.record import SweepResult, TrialResult
from modswap.core.words.printable import tame_lines
from modswap.report.page import Page
from modswap.report.swept.plot import sweep_svg
from modswap.report.swept.table import COLUMNS, cost_words, same_reasons, verdict_line
from modswap.report.tamed import tamed

if TYPE_CHECKING:
    from modswap.report.web.drawn import DrawnCurve

SHOWN_ROWS = 5000
SHOWN_BEST = 3  # at the top
SHOWN_CURVES = 50
PLOTTED_ALL = 400  # trials, of which a page holds a plot for each cost
# the costs on which a budget may be set, each with its name; the first is plotted always
_PLOTTED = {
    "flops": "FLOPs", "params": "parameters", "memory": "memory", "latency": "latency",
}  # fmt: skip
# options that the command of the next step takes over, and whether each has a value
_OF_RULE = {"--adapt": False, "--start": True}


def sweep_html(found: SweepResult, page: Page) -> str:
    """Return a sweep as a page, with plots of the errors against what the trials cost."""
    # its import takes a tenth of a second, which the other forms do not need
    from modswap.report.web.again import swept_again
    from modswap.report.web.frame import framed

    recipe, steps = tame_lines(found.recipe), list(_steps(found, page))
    found = tamed(found)
    columns = [column for column in COLUMNS if column.is_shown(found.ranked)]
    head, _, words = verdict_line(found).plain.partition("  ")
    curves = list(_curves(found))
    chosen = {one.trial.key for one in found.choice.results} if found.choice else set()
    return framed(
        "swept.html",
        title=f"modswap sweep: {found.checkpoint or 'a model'}",
        found=found,
        head=head,
        words=words,
        before=cost_words(found.before),
        chosen=[one.trial.name for one in found.choice.results] if found.choice else [],
        best=[(one.trial, _in_short(one)) for one in found.ranked[:SHOWN_BEST]],
        choice_cost=cost_words(found.choice.cost) if found.choice else "",
        together=_together(found),
        steps=steps,
        again=swept_again(page.args),
        resumed=_resumes(page),
        plots=list(_plots(found)),
        curves=curves[:SHOWN_CURVES],
        metric=next((one.healed.metric for one in found.ranked if one.healed), ""),
        columns=columns,
        rows=[
            (one.trial.key in chosen, [column.cell(one) for column in columns])
            for one in found.ranked[:SHOWN_ROWS]
        ],
        left=max(len(found.ranked) - SHOWN_ROWS, 0),
        recipe=recipe,
        reasons=list(same_reasons(found.failed))[:SHOWN_ROWS],
    )


def _in_short(one: TrialResult) -> str:
    """Return the error of a trial, and what it adds, in words."""
    cells = {column.name: column.cell(one) for column in COLUMNS}
    added = f"parameters {cells['params']}, FLOPs {cells['FLOPs']}"
    healed = f", healed {cells['healed']}" if cells["healed"] else ""
    return f"error {cells['error']}, {added}{healed}"


def _together(found: SweepResult) -> str:
    together = found.choice.together if found.choice else None
    return "" if together is None else cost_words(together)


def _plots(found: SweepResult) -> Iterator[tuple[str, str]]:
    """Yield the plots, each as a name of a cost and the address of a picture."""
    if not found.ranked:
        return
    count = len(_PLOTTED) if len(found.ranked) <= PLOTTED_ALL else 1
    for cost, name in [*_PLOTTED.items()][:count]:
        svg = sweep_svg(found, cost).encode("utf-8")
        yield name, f"data:image/svg+xml;base64,{b64encode(svg).decode('ascii')}"


def _curves(found: SweepResult) -> Iterator[tuple[str, float, "DrawnCurve"]]:
    """Yield each trial that was healed: its name, the seconds, and its agreement by stages."""
    from modswap.report.web.drawn import drawn_stages

    for one in found.ranked:
        if one.healed is not None and one.unhealed is not None:
            drawn = drawn_stages(one.unhealed, one.stages, one.healed, one.goal)
            yield one.trial.name, one.healing_seconds, drawn


def _resumes(page: Page) -> bool:
    """Return whether the trials are kept in a file."""
    return any(word.partition("=")[0] == "--resume" for word in page.args)


def _steps(found: SweepResult, page: Page) -> Iterator[tuple[str, str]]:
    """Yield what to do next, each with its command; empty where there is none."""
    from modswap.report.web.again import shell_line

    resumed = _resumes(page)
    if found.error is not None:
        yield found.error.fix or "See the reasons below", ""
    elif found.interrupted and resumed:
        yield "Go on with the trials that are left", shell_line("modswap", *page.args)
    elif found.interrupted:
        yield "Start again with --resume FILE, to be able to go on", ""
    elif found.choice is not None and found.recipe:
        words = ("replace", found.checkpoint or "FILE", "-c", "RECIPE", *_shared(page), "-o", "OUT")
        line = shell_line("modswap", *words)
        yield "Save the recipe below as RECIPE, swap by it, then heal", line
    elif found.ranked:
        line = shell_line("modswap", "replace", found.checkpoint or "FILE", *_swap(found, page))
        yield "Take the trial with the smallest error, then heal", line


def _swap(found: SweepResult, page: Page) -> list[str]:
    """Return the options that swap the best trial alone."""
    best = found.ranked[0].trial
    settings = {**best.base, **best.args}
    # a value as JSON, which YAML reads as the same
    options = [word for name in settings for word in ("--set", f"{name}={_yaml(settings[name])}")]
    from modswap.report.web.again import given

    rule = ["--match", pattern_of(best.site), "--with", best.module, *options]
    return [*rule, *given(page.args, _OF_RULE), *_shared(page), "-o", "OUT"]


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shared(page: Page) -> list[str]:
    from modswap.report.web.again import loading

    return loading(page.args, ("--input",))

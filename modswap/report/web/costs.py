"""The numbers of a model before and after a swap, as rows of a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modswap.core.decided.cost import size_text
from modswap.core.finding import Finding
from modswap.core.kept.model_view import ModelView
from modswap.core.kept.outcome import Outcome
from modswap.report.summary.cost import changed, costs_of

NOT_MEASURED = "not measured"
# costs by their names in short reports, each with its name here and the key of its command
_NAMES = {
    "drift": ("output drift, relative", "drift"),
    "parameters": ("parameters", "params"),
    "FLOPs": ("FLOPs", "cost"),
    "memory": ("memory, training step", "cost"),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """A number before and after.

    `before` and `after` are words, `change` is that of the number in percent, and `key` names the
    command that prints it again. Where nothing was measured, `why` has the reason. `remark` says
    how sure the numbers are; it is empty where they are exact.
    """

    name: str
    before: str = ""
    after: str = ""
    change: str = ""
    key: str = ""
    why: str = ""
    remark: str = ""


def costs(outcome: Outcome) -> tuple[Cost, ...]:
    """Return the cost of a swap, the distance of the outputs first.

    A command without examinations has no rows for their numbers.
    """
    unknown = outcome.verdict is None and outcome.ok
    return tuple(row for row in _rows(outcome) if not (unknown and row.why))


def _rows(outcome: Outcome) -> Iterator[Cost]:
    yield from _agreement(outcome)
    known = {one.name: one for one in costs_of(outcome)}
    for name, (shown, key) in _NAMES.items():
        found = known.get(name)
        if found is not None:
            yield Cost(shown, found.before, found.after, found.change, key)
        elif name != "parameters":
            yield Cost(shown, why=_reason(outcome, key))
        if name == "FLOPs":
            yield from _inference(outcome)
    yield from _latency(outcome.view)


def _latency(view: ModelView | None) -> Iterator[Cost]:
    """Yield the time of a pass, where it was asked for."""
    if view is not None and view.milliseconds is not None:
        old, new = view.milliseconds
        change = f"{100 * (new - old) / old:+.1f} %"
        both = _duration(old), _duration(new)
        yield Cost("latency, this machine", *both, change, "latency", remark=_spread(view))
    elif view is not None:
        yield Cost("latency", why=view.untimed or NOT_MEASURED)


def _inference(outcome: Outcome) -> Iterator[Cost]:
    """Yield the peak of a pass without gradients, which shorter reports leave out."""
    for one in _of_model(outcome, "cost"):
        if "before" in one.data:
            old, new = (one.data[when]["peak_inference"] for when in ("before", "after"))
            found = changed("memory, inference", (old, new), size_text, size_text)
            yield Cost(found.name, found.before, found.after, found.change, "cost")


def _agreement(outcome: Outcome) -> Iterator[Cost]:
    if outcome.healing is not None:
        before, after = outcome.healing.before, outcome.healing.after
        name = f"agreement with the original, {after.metric}"
        yield Cost(name, f"{before.value:.3f}", f"{after.value:.3f}", "", "healing")


def _reason(outcome: Outcome, check: str) -> str:
    """Return the reason why an examination of the whole model has no number."""
    skipped = (one.what for one in _of_model(outcome, check) if one.status == "skipped")
    return next(skipped, NOT_MEASURED)


def _of_model(outcome: Outcome, check: str) -> list[Finding]:
    findings = outcome.verdict.findings if outcome.verdict is not None else ()
    return [one for one in findings if one.check == check and not one.path]


def site_costs(outcome: Outcome) -> Mapping[str, str]:
    """Return in words how the cost of each site changed, by its path."""
    findings = outcome.verdict.findings if outcome.verdict is not None else ()
    return {one.path: one.what for one in findings if one.check == "cost" and one.path}


def _spread(view: ModelView) -> str:
    """Return in words by how much passes differ; empty where there was one pass alone."""
    if view.milliseconds is None or not any(view.spread):
        return ""
    old, new = (_duration(one, 1) for one in view.spread)
    change = abs(view.milliseconds[1] - view.milliseconds[0])
    more = "more" if change > sum(view.spread) else "not more"
    return f"most passes are within ±{old} before and ±{new} after: the change is {more} than that"


def _duration(ms: float, digits: int = 3) -> str:
    """Return milliseconds for people; from a second on as seconds."""
    unit, number = ("ms", ms) if ms < 999.5 else ("s", ms / 1000)
    return f"{float(f'{number:.{digits}g}'):g} {unit}"

"""The numbers of a model before and after a swap, as rows of a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modswap.core.decided.cost import count_text, size_text
from modswap.core.kept.model_view import ModelView
from modswap.core.kept.outcome import Outcome

NOT_MEASURED = "not measured"
_MEMORY = (("peak_inference", "memory, inference"), ("peak_training", "memory, training step"))


@dataclass(frozen=True, slots=True)
class Cost:
    """A number before and after.

    `before` and `after` are words, `change` is that of the number in percent, and `key` names the
    command that prints it again. Where nothing was measured, `why` has the reason.
    """

    name: str
    before: str = ""
    after: str = ""
    change: str = ""
    key: str = ""
    why: str = ""


def costs(outcome: Outcome) -> tuple[Cost, ...]:
    """Return the cost of a swap, the distance of the outputs first.

    A command without examinations has no rows for their numbers.
    """
    unknown = outcome.verdict is None and outcome.ok
    return tuple(row for row in _rows(outcome) if not (unknown and row.why))


def _rows(outcome: Outcome) -> Iterator[Cost]:
    yield from _agreement(outcome)
    yield from _drift(outcome)
    if outcome.params_before or outcome.params_after:
        old, new = outcome.params_before, outcome.params_after
        yield Cost("parameters", f"{old:,}", f"{new:,}", change(old, new), "params")
    yield from _counted(outcome)
    yield from _latency(outcome.view)


def _latency(view: ModelView | None) -> Iterator[Cost]:
    """Yield the time of a pass, where it was asked for."""
    if view is not None and view.milliseconds is not None:
        old, new = view.milliseconds
        yield Cost("latency", f"{old:.3g} ms", f"{new:.3g} ms", change(old, new), "latency")
    elif view is not None:
        yield Cost("latency", why=view.untimed or NOT_MEASURED)


def _counted(outcome: Outcome) -> Iterator[Cost]:
    data, why = _of_model(outcome, "cost", "before")
    if data is None:
        yield Cost("FLOPs and memory", why=why)
        return
    before, after = data["before"], data["after"]
    old, new = before["flops"], after["flops"]
    yield Cost("FLOPs", count_text(old), count_text(new), change(old, new), "cost")
    for key, name in _MEMORY:
        old, new = before[key], after[key]
        yield Cost(name, size_text(old), size_text(new), change(old, new), "cost")


def _agreement(outcome: Outcome) -> Iterator[Cost]:
    if outcome.healing is not None:
        before, after = outcome.healing.before, outcome.healing.after
        name = f"agreement with the original, {after.metric}"
        yield Cost(name, f"{before.value:.3f}", f"{after.value:.3f}", "", "healing")


def _drift(outcome: Outcome) -> Iterator[Cost]:
    data, why = _of_model(outcome, "drift", "relative")
    name = "output drift"
    if data is None:
        yield Cost(name, why=why)
    elif data["relative"] is None:
        yield Cost(name, "", "not finite", key="drift")
    else:
        share = 100 * data["relative"]
        said = "none" if not share else f"{share:.3g} %"
        yield Cost(name, "", said, "of their size", "drift")


def _of_model(outcome: Outcome, check: str, name: str) -> tuple[Mapping[str, Any] | None, str]:
    """Return the data of an examination of the whole model that has a number, or why none has."""
    findings = outcome.verdict.findings if outcome.verdict is not None else ()
    found = [one for one in findings if one.check == check and not one.path]
    held = next((one.data for one in found if one.status == "passed" and name in one.data), None)
    return held, next((one.what for one in found if one.status == "skipped"), NOT_MEASURED)


def site_costs(outcome: Outcome) -> Mapping[str, str]:
    """Return in words how the cost of each site changed, by its path."""
    findings = outcome.verdict.findings if outcome.verdict is not None else ()
    return {one.path: one.what for one in findings if one.check == "cost" and one.path}


def change(old: float, new: float) -> str:
    """Return how a number changed in percent: `+18.1 %`; empty where it was 0."""
    if old == new:
        return "kept"
    return f"{100 * (new - old) / old:+.1f} %".replace("-", "\N{MINUS SIGN}") if old else ""

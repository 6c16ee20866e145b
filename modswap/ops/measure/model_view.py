"""A model before and after a swap, as pages show it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from statistics import median, quantiles

from torch import nn

from modswap.core.decided.flow import edges_of, flows_of
from modswap.core.decided.verdict import Pass
from modswap.core.kept.model_view import ModelView
from modswap.ops.measure.timing import pass_times, unread
from modswap.ops.run.inputs import Case
from modswap.ops.run.module_rows import module_rows

UNREAL = "no values were computed: `modswap replace` measures it"
ROUNDS = 3  # in turns, so that a busy moment of the machine does not count for one side alone
SLOW_MILLISECONDS = 400  # of a pass; slower ones are timed in two rounds


def viewed_before(model: nn.Module) -> ModelView:
    """Return the view of a model that is not changed yet."""
    return ModelView(before=tuple(module_rows(model)))


def viewed_after(
    view: ModelView, model: nn.Module, passes: tuple[Pass, Pass], paths: Sequence[str]
) -> ModelView:
    """Return the view with the swapped model, and the flow around its sites.

    `passes` are one of the model before and one after.
    """
    before, after = (one.visits for one in passes)
    return replace(
        view,
        after=tuple(module_rows(model)),
        edges_before=edges_of(before),
        edges_after=edges_of(after),
        flows=flows_of(after, paths),
    )


def timed(
    view: ModelView,
    model: nn.Module,
    original: Callable[[], AbstractContextManager[nn.Module]],
    case: Case,
    *,
    unreal: bool,
) -> ModelView:
    """Return the view with the time of a pass before and after; `original` is that of a bench.

    Where the weights were not read, it has the reason.
    """
    reason = unread(model, unreal=unreal) or (UNREAL if unreal else "")
    if reason:
        return replace(view, untimed=reason)
    found: tuple[list[list[float]], list[list[float]]] = [], []
    for number in range(ROUNDS):
        found[1].append(pass_times(model, case))
        with original() as before:
            found[0].append(pass_times(before, case))
        if number and median(found[1][0]) > SLOW_MILLISECONDS:
            break
    old, new = (min(map(median, rounds)) for rounds in found)
    # of the passes of all rounds, between which the machine may have become busy
    spread = tuple(spread_of([one for times in rounds for one in times]) for rounds in found)
    return replace(view, milliseconds=(old, new), spread=(spread[0], spread[1]))


def spread_of(times: Sequence[float]) -> float:
    """Return half of the distance between the quartiles of times."""
    if len(times) < 2:
        return 0.0
    first, _, third = quantiles(times, n=4, method="inclusive")
    return (third - first) / 2

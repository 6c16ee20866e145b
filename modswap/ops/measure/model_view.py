"""A model before and after a swap, as pages show it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from torch import nn

from modswap.core.decided.flow import edges_of, flows_of
from modswap.core.decided.verdict import Pass
from modswap.core.kept.model_view import ModelView
from modswap.ops.measure.timing import latency, unread
from modswap.ops.run.inputs import Case
from modswap.ops.run.module_rows import module_rows

UNREAL = "no values were computed: `modswap replace` measures it"
ROUNDS = 3  # in turns, so that a busy moment of the machine does not count for one side alone
SLOW_MILLISECONDS = 400  # of a pass; slower ones are timed in one round


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
    found: tuple[list[float], list[float]] = [], []
    for _ in range(ROUNDS):
        found[1].append(latency(model, case))
        with original() as before:
            found[0].append(latency(before, case))
        if found[1][0] > SLOW_MILLISECONDS:
            break
    return replace(view, milliseconds=(min(found[0]), min(found[1])))

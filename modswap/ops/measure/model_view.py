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
    reason = unread(model, unreal=unreal) or ("no values were computed" if unreal else "")
    if reason:
        return replace(view, untimed=reason)
    after = latency(model, case)
    with original() as before:
        return replace(view, milliseconds=(latency(before, case), after))

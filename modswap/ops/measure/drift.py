"""Measure how far the outputs of a swapped model are from those of the original."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from modswap.live_values import live_tensors
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case


@dataclass(frozen=True, slots=True)
class Drift:
    """The distance of a model's outputs from those of the original, on its dummy inputs.

    Args:
        relative: Norm of the difference over the norm of the original's outputs, over all floating
            outputs; the largest of all passes. Infinite where outputs that are not finite differ.
        rows: Rows of logits in all passes; 0 where the output is not one tensor (N, classes).
        agreeing: Rows whose largest value is in the same place as before.
        resized: Whether outputs have other sizes, or are others, so that they cannot be compared.
    """

    relative: float
    rows: int = 0
    agreeing: int = 0
    resized: bool = False

    @property
    def text(self) -> str:
        """Return the drift in words."""
        moved = f"outputs moved by {self.relative:.3g} of their size on the dummy input"
        if not self.rows:
            return moved
        return f"{moved}; the largest of each row stayed in {self.agreeing} of {self.rows}"


def drift_of(
    model: nn.Module,
    original: Callable[[], AbstractContextManager[nn.Module]],
    cases: Sequence[Case],
    seed: int,
) -> Drift:
    """Return the drift of a swapped model; `original` puts the old modules back for a block."""
    after = [_outputs(model, case, seed) for case in cases]
    with original() as before:
        pairs = [
            (_outputs(before, case, seed), new) for case, new in zip(cases, after, strict=True)
        ]
    if any(_shapes(old) != _shapes(new) for old, new in pairs):
        return Drift(math.inf, resized=True)
    found = [_distance(old, new) for old, new in pairs]
    relative = math.inf if any(map(math.isnan, found)) else max(found)
    rows = [_rows(old, new) for old, new in pairs]
    return Drift(relative, sum(count for count, _ in rows), sum(same for _, same in rows))


def _outputs(model: nn.Module, case: Case, seed: int) -> list[torch.Tensor]:
    with ready(model, case, seed) as (args, kwargs, dtype):
        output = run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
        floating = [tensor for tensor in live_tensors(output) if tensor.is_floating_point()]
        return [tensor.double().clone() for tensor in floating]


def _shapes(tensors: Sequence[torch.Tensor]) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors]


def _distance(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float:
    apart = sum(float(_difference(o, n).square().sum()) for o, n in zip(before, after, strict=True))
    size = sum(float(old[old.isfinite()].square().sum()) for old in before)
    if size == 0:
        return 0.0 if apart == 0 else math.inf
    return math.sqrt(apart / size)


def _difference(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return the difference, 0 where both are the same infinity or no number."""
    same = (before == after) | (before.isnan() & after.isnan())
    return (after - before).masked_fill(same, 0)


def _rows(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> tuple[int, int]:
    """Return the rows of logits, and how many of them have their largest value where it was."""
    if len(before) != 1 or before[0].ndim != 2 or before[0].shape[1] < 2:
        return 0, 0
    (old,), (new,) = before, after
    return len(old), int((old.argmax(1) == new.argmax(1)).sum())

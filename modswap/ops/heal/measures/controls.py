"""Rows to judge an agreement by: the original disturbed, and a module dropped.

An agreement of .90 says nothing by itself: where the original shifted by a pixel agrees with itself
to .86, it is good; where the model without the module agrees to .95, the module is not healed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from modswap.core.healed.agreement import Control
from modswap.live_values import live_tensors, map_tensors
from modswap.ops.apply import module_at
from modswap.ops.heal import ranks
from modswap.ops.heal.measures.agreement import (
    Pair,
    agreement_of,
    joined_agreement,
    part_of,
)
from modswap.ops.heal.measures.metric import Metric
from modswap.ops.heal.measures.passes import batches_of, outputs_of, still
from modswap.ops.heal.samples import Batch, Samples

NOISE = 4 / 255  # standard deviation over the range of the inputs
PEEKED = 32  # samples whose smallest and largest value are the range

Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Judged:
    """Where agreements are measured: the original, the samples, and how.

    Args:
        original: The model before the swap.
        samples: The inputs.
        indices: Numbers of those that judge.
        batch: Samples in a pass.
        metric: What is measured.
    """

    original: nn.Module
    samples: Samples
    indices: Sequence[int]
    batch: int
    metric: Metric


def disturbed(judged: Judged) -> tuple[Control, ...]:
    """Return the original against itself on shifted and on noisy inputs.

    Maps (N, C, H, W) shift by one pixel to the right, signals (N, C, L) by one place, the border
    repeated; rows (N, F) do not shift. The noise is normal; its standard deviation is 4/255 of the
    range of the inputs as the model gets them, normalised or not: of the largest less the smallest
    value. Inputs without floating tensors of two axes or more, such as tokens, have no such rows.
    """
    with still(judged.original):
        peeked = judged.samples.batch(judged.indices[:PEEKED])
        given = live_tensors([*peeked.args, *peeked.kwargs.values()])
        ranges = [float(each.max() - each.min()) for each in given if _is_signal(each)]
        if not ranges:
            return ()
        changes: dict[str, Change] = {"noise of 4/255": partial(_noisy, max(ranges) * NOISE)}
        if any(each.ndim > 2 for each in given):
            changes = {"shifted by one pixel": lambda each, _: shifted(each), **changes}
        return tuple(
            Control(name, agreement_of(_against_itself(judged, change), judged.metric))
            for name, change in changes.items()
        )


def dropped(judged: Judged, paths: Sequence[str]) -> Control | None:
    """Return the original with the modules of these paths dropped: each gives its input.

    None where the shapes do not allow that: the first tensor that a module gives takes the place
    of the first that it gets, so both must have one shape.
    """

    def pairs() -> Iterator[Pair]:
        for batch in batches_of(judged.samples, judged.indices, judged.batch):
            before = outputs_of(judged.original, batch)
            with _without(judged.original, paths):
                yield batch, before, outputs_of(judged.original, batch)

    with still(judged.original):
        try:
            own = part_of(pairs(), judged.metric)
        except _NoDropError:
            own = None
    parts = ranks.gathered(own)
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    return Control("dropped", joined_agreement(whole, judged.metric))


def shifted(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor moved by one place along its last axis, the first place repeated.

    Rows (N, F) stay.
    """
    if tensor.ndim < 3:
        return tensor
    return torch.cat([tensor[..., :1], tensor[..., :-1]], -1)


class _NoDropError(Exception):
    """The first output of a module has another shape than its first input."""


@contextmanager
def _without(model: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """Run a block in which the modules of these paths give their first input."""
    hooks = [
        module_at(model, path).register_forward_hook(_passing, with_kwargs=True) for path in paths
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _passing(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
    given, made = live_tensors([*args, *kwargs.values()]), live_tensors(output)
    if not given or not made or given[0].shape != made[0].shape:
        raise _NoDropError
    changed = map_tensors(lambda tensor: given[0] if tensor is made[0] else tensor, output)
    if live_tensors(changed)[0] is not given[0]:  # inside an object that torch does not enter
        raise _NoDropError
    return changed


def _noisy(deviation: float, tensor: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    return tensor + (torch.randn(tensor.shape, generator=draw) * deviation).to(tensor)


def _against_itself(judged: Judged, change: Change) -> Iterator[Pair]:
    own = batches_of(judged.samples, judged.indices, judged.batch)
    for number, batch in ranks.numbered(own):
        draw = torch.Generator().manual_seed(number)

        def changed(tensor: torch.Tensor, draw: torch.Generator = draw) -> torch.Tensor:
            return change(tensor, draw) if _is_signal(tensor) else tensor

        given = Batch(*map_tensors(changed, (tuple(batch.args), dict(batch.kwargs))))
        yield batch, outputs_of(judged.original, batch), outputs_of(judged.original, given)


def _is_signal(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1 and tensor.shape[-1] > 1

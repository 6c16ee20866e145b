"""Relative change of the outputs of a module when an input is changed."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from modswap.core.decided.dependence import CLEAR_RATIO, InputChange
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.ops.examine.alone.pair import Pair, outputs_of

Part = Callable[[torch.Tensor], torch.Tensor]
DRAWS = 3  # draws: a discrete choice may not react to a single change


def relative_change(
    before: Sequence[torch.Tensor],
    after: Sequence[torch.Tensor],
    part: Part = lambda tensor: tensor,
) -> float:
    """Return the largest change among (parts of) outputs, relative to their size; 0 for NaN."""
    found = [0.0]
    for old, new in zip(before, after, strict=False):
        if old.shape != new.shape or not old.numel():
            continue
        change = (part(new) - part(old)).abs()
        size = old.abs().max() + torch.finfo(old.dtype).tiny
        found.append(float(change.max() / size) if change.numel() else 0.0)
    return max(value for value in found if value == value)  # noqa: PLR0124 - not NaN


def along(axis: int, part: slice) -> Part:
    """Return the function that takes a part of a tensor along an axis."""
    return lambda tensor: tensor[(slice(None),) * axis + (part,)] if tensor.ndim > axis else tensor


def change_by_input(pair: Pair, index: int) -> InputChange:
    """Return how far the outputs change with one input, by its number among the tensors."""
    inputs = pair.inputs
    variants = [inputs.changed(index, slice(None)) for _ in range(DRAWS)]
    old, new = (_largest(module, inputs, variants) for module in (pair.old, pair.new))
    return InputChange(inputs.labels[index], old, new)


def _largest(
    module: nn.Module, inputs: CallInputs, variants: Sequence[Sequence[torch.Tensor]]
) -> float:
    """Return the largest change that variants of a call make, up to the first clear one."""
    before = outputs_of(module, inputs)
    most = 0.0
    for leaves in variants:
        most = max(most, relative_change(before, outputs_of(module, inputs, leaves)))
        if most > CLEAR_RATIO:
            break
    return most

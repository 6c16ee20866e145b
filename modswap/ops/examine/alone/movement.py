"""How far the outputs of a module move when something that it is given is changed."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from modswap.core.decided.dependence import CLEAR, Moves
from modswap.ops.examine.alone.inputs import Inputs
from modswap.ops.examine.alone.pair import Rehearsal, perform

Part = Callable[[torch.Tensor], torch.Tensor]


def strength(base: Sequence[torch.Tensor], now: Sequence[torch.Tensor], part: Part) -> float:
    """Return the largest change among outputs, relative to their size; 0 where it is NaN.

    Args:
        base: Outputs.
        now: The same after a change.
        part: Takes from each what is compared.
    """
    found = [0.0]
    for one, other in zip(base, now, strict=False):
        if one.shape != other.shape or not one.numel():
            continue
        change = (part(other) - part(one)).abs()
        size = one.abs().max() + torch.finfo(one.dtype).tiny
        found.append(float(change.max() / size) if change.numel() else 0.0)
    return max(value for value in found if value == value)  # noqa: PLR0124 - not NaN


def along(axis: int, part: slice) -> Part:
    """Return what takes a part of a tensor along an axis."""
    return lambda tensor: tensor[(slice(None),) * axis + (part,)] if tensor.ndim > axis else tensor


def moved(
    module: nn.Module, inputs: Inputs, changes: Sequence[Sequence[torch.Tensor]], part: Part
) -> float:
    """Return how far a module's outputs move, by the first change that moves them clearly.

    Args:
        module: The module.
        inputs: The call.
        changes: Tensors for it, in place of its own.
        part: Takes from each output what is compared.
    """
    base = perform(module, inputs)
    most = 0.0
    for leaves in changes:
        most = max(most, strength(base, perform(module, inputs, leaves), part))
        if most > CLEAR:
            break
    return most


PROBES = 3  # a discrete choice may miss one change


def argument(on: Rehearsal, index: int) -> Moves:
    """Return how far the outputs move with one input.

    Args:
        on: A site's modules and a call for them.
        index: Which of the call's tensors.
    """
    inputs = on.inputs
    changes = [inputs.changed(index, slice(None)) for _ in range(PROBES)]
    old, new = (moved(module, inputs, changes, lambda t: t) for module in (on.old, on.new))
    return Moves(inputs.labels[index], old, new)

"""The cost of a model counted on a real pass, to compare predictions with it."""

from typing import Any

from torch import nn

from modswap.core.decided.cost import PassCost
from modswap.live_values import named_tensors
from modswap.ops.measure.cost import cost_of, metered
from modswap.ops.run.isolation import untouched


def real_costs(model: nn.Module, args: tuple[Any, ...]) -> PassCost:
    """Return the numbers of `costs_of`, counted on a real pass, which allocates memory."""
    tensors = named_tensors(model)
    with untouched(model, training=False):
        inference = metered(model, tensors, args, {}, gradients=False)
    with untouched(model, training=True):
        training = metered(model, tensors, args, {}, gradients=True)
    model.zero_grad()
    return cost_of(model, inference, training)

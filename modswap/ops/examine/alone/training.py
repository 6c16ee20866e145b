"""Run a module of a site forward and backward in training mode."""

from collections.abc import Sequence

import torch
from torch import nn

from modswap.live_values import live_tensors
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.seeds import seeded


def training_pass(module: nn.Module, inputs: CallInputs, leaves: Sequence[torch.Tensor]) -> None:
    """Run a module forward and, from random weights of all its outputs, backward.

    `leaves` are the tensors of the call; those that require gradients get them, as the module's
    parameters do. The module's mode stays as it is.
    """
    with seeded(0), torch.enable_grad():
        # a module may write into its input, which no leaf allows
        args, kwargs = inputs.live([leaf * 1 if leaf.requires_grad else leaf for leaf in leaves])
        outputs = live_tensors(module(*args, **kwargs))
        losses = [(y * torch.randn_like(y)).sum().float() for y in outputs if y.requires_grad]
        if losses:
            torch.stack(losses).sum().backward()

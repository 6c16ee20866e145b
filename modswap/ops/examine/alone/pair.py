"""Run a site's old and new module on the same inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from modswap.ops.examine.alone.inputs import Inputs
from modswap.ops.run.describe import live_tensors
from modswap.ops.run.isolation import put_back, set_mode
from modswap.seeds import seeded


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A site's two modules with random weights, and a call for them.

    Args:
        path: Path of the site; empty for the whole model.
        old: Copy of the module that was taken out.
        new: Copy of the one that went in.
        inputs: What they are called with.
        axis: Axis of the batch.
        batch: Its size; 0 where the first axis is not the batch.
        refused: What the new module raised on a larger batch than was seen, or empty.
    """

    path: str
    old: nn.Module
    new: nn.Module
    inputs: Inputs
    axis: int = 0
    batch: int = 0
    refused: str = ""


def perform(
    module: nn.Module, inputs: Inputs, leaves: Sequence[torch.Tensor] | None = None, seed: int = 0
) -> list[torch.Tensor]:
    """Return the floating tensors that a module gives in evaluation mode.

    Tensors that it only passes on are left out, if it gives others. The random state is put back.

    Args:
        module: The module.
        inputs: The call.
        leaves: Takes the place of its tensors.
        seed: For what the module draws.
    """
    if leaves is not None or seed:
        return _performed(module, inputs, inputs.leaves if leaves is None else leaves, seed)
    if id(module) not in inputs.given:
        inputs.given[id(module)] = _performed(module, inputs, inputs.leaves, seed)
    return inputs.given[id(module)]


def _performed(
    module: nn.Module, inputs: Inputs, leaves: Sequence[torch.Tensor], seed: int
) -> list[torch.Tensor]:
    fresh = [leaf.clone() for leaf in leaves]
    set_mode(module, training=False)
    # what it writes must not change what it gives next: that it writes is told by itself
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with seeded(seed), torch.no_grad():
        args, kwargs = inputs.live(fresh)
        outputs = live_tensors(module(*args, **kwargs))
    given = {id(leaf) for leaf in fresh}
    floating = [one for one in outputs if one.is_floating_point()]
    # what gives back nothing else, as a dropout does, is told by what it passes on
    told = [one for one in floating if id(one) not in given] or floating
    told = [one.clone() for one in told] if kept else told  # it may be a part of a buffer
    put_back(dict(module.named_buffers()), kept)
    return told

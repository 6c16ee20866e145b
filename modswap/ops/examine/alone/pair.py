"""The old and the new module of a site, with random weights, and a call for both."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from modswap.live_values import live_tensors
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.ops.run.describe import all_finite
from modswap.ops.run.isolation import put_back, set_mode
from modswap.seeds import seeded


@dataclass(frozen=True, slots=True)
class Pair:
    """The two modules of a site with random weights, and a call for them."""

    path: str  # of the site; empty for the whole model
    old: nn.Module  # copy of the module that was taken out
    new: nn.Module  # copy of the module that took its place
    inputs: CallInputs
    batch_axis: int = 0
    batch: int = 0  # size of the batch; 0 where the first axis is no batch
    refused: str = ""  # message of the new module for a larger batch than the recorded one
    like: str = ""  # path of an earlier site that is alike, whose pair this is


@dataclass(frozen=True, slots=True)
class NoPair:
    """A site whose modules do not run alone."""

    path: str  # of the site; empty for the whole model
    reason: str  # why no examination is made there
    raised: str = ""  # message of the new module on values that the old one takes, if it was run
    like: str = ""  # path of an earlier site that is alike


def outputs_of(
    module: nn.Module,
    inputs: CallInputs,
    leaves: Sequence[torch.Tensor] | None = None,
    seed: int = 0,
) -> list[torch.Tensor]:
    """Return the floating outputs of a module in evaluation mode; buffers and seeds are restored.

    Inputs that the module returns unchanged are left out, if it returns other tensors as well.
    `leaves` replace the tensors of the call; for its own tensors the call keeps each module's
    outputs.
    """
    if leaves is not None or seed:
        return _run(module, inputs, inputs.leaves if leaves is None else leaves, seed)
    if id(module) not in inputs.outputs:
        inputs.outputs[id(module)] = _run(module, inputs, inputs.leaves, seed)
    return inputs.outputs[id(module)]


def _run(
    module: nn.Module, inputs: CallInputs, leaves: Sequence[torch.Tensor], seed: int
) -> list[torch.Tensor]:
    fresh = [leaf.clone() for leaf in leaves]
    set_mode(module, training=False)
    # restored, as a run must not change the next; `untouched` reports writes
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with seeded(seed), torch.no_grad():
        args, kwargs = inputs.live(fresh)
        outputs = live_tensors(module(*args, **kwargs))
    found = _made(outputs, fresh)
    found = [tensor.clone() for tensor in found] if buffers else found  # may be parts of buffers
    put_back(dict(module.named_buffers()), buffers)
    return found


def _made(outputs: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the floating outputs that are no inputs, or all where there are no others."""
    passed_on = {id(leaf) for leaf in given}
    floating = [tensor for tensor in outputs if tensor.is_floating_point()]
    # a dropout, for example, returns its input alone
    return [tensor for tensor in floating if id(tensor) not in passed_on] or floating


def loses_finite(pair: Pair) -> bool:
    """Return whether the output of the new module is not finite where that of the old one is."""
    old, new = (all_finite(outputs_of(each, pair.inputs)) for each in (pair.old, pair.new))
    return old and not new

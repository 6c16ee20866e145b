"""Copy a module with random weights, so that none of its own is read."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from modswap.live_values import live_tensors, nbytes_of

MAX_STRUCTURE_BYTES = 1 << 20  # of a buffer that is structure, such as an index table


class UnfitError(Exception):
    """A module cannot be run alone; the message is the reason."""


def copied(module: nn.Module, around: Mapping[int, torch.Tensor]) -> nn.Module:
    """Return a copy on the CPU with random weights, without reading the module's own.

    Small buffers are structure, such as index tables and masks, and are copied; `around` are
    stand-ins for the tensors of the surrounding model, by identity. A buffer that can neither be
    copied nor drawn raises an `UnfitError`.
    """
    memo: dict[int, Any] = dict(around)
    for inner in module.modules():
        for name, parameter in inner.named_parameters(recurse=False):
            drawn = _weights(name, parameter)
            memo[id(parameter)] = nn.Parameter(drawn, requires_grad=parameter.requires_grad)
        held = {n: t for n, t in vars(inner).items() if isinstance(t, torch.Tensor)}
        for name, buffer in (*inner.named_buffers(recurse=False), *held.items()):
            memo[id(buffer)] = _structure(name, buffer)
        memo |= _noted(inner)
    # a stray reference to a parent must not copy the model's weights
    result: nn.Module = copy.deepcopy(module, memo)
    return result


def _noted(module: nn.Module) -> dict[int, Any]:
    """Return, by identity, the values noted at the nodes of an exported program.

    They have no data, and of symbolic sizes they cannot be copied.
    """
    held = [*vars(module).values()]
    held += [each for some in held if isinstance(some, list) for each in some]
    graphs = [each for each in held if isinstance(each, torch.fx.Graph)]
    graphs += [each.graph for each in held if isinstance(each, torch.fx.Node)]
    notes = (value for graph in graphs for node in graph.nodes for value in node.meta.values())
    return {id(leaf): leaf for note in notes for leaf in live_tensors(note)}


def placeholders(*modules: nn.Module) -> dict[int, torch.Tensor]:
    """Return a tensor without data for each tensor of the modules, by its identity."""
    return {
        id(tensor): torch.empty_like(tensor, device="meta")
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    }


def is_statistic(name: str) -> bool:
    """Return whether a buffer holds statistics of batch normalisation, which are no structure."""
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _dtype(tensor: torch.Tensor) -> torch.dtype:
    narrow = tensor.is_floating_point() and tensor.element_size() < 4
    return torch.float32 if narrow else tensor.dtype


def _weights(name: str, parameter: torch.Tensor) -> torch.Tensor:
    if isinstance(parameter, nn.UninitializedParameter):
        raise UnfitError(f"its parameter {name!r} has no shape yet")
    dtype = _dtype(parameter)
    if not (dtype.is_floating_point or dtype.is_complex):
        return _structure(name, parameter)
    drawn = torch.randn(parameter.shape, dtype=dtype)
    if parameter.ndim >= 2:
        return drawn.mul_(max(1, parameter[0].numel()) ** -0.5)
    scales = name.endswith(("weight", "gamma", "scale"))
    return drawn.mul_(0.1).add_(1 if scales else 0)


def _structure(name: str, buffer: torch.Tensor) -> torch.Tensor:
    dtype = _dtype(buffer)
    if name.endswith("running_var"):
        return torch.ones(buffer.shape, dtype=dtype)
    if is_statistic(name):
        return torch.zeros(buffer.shape, dtype=dtype)
    if nbytes_of(buffer) < MAX_STRUCTURE_BYTES and buffer.device.type != "meta":
        return buffer.detach().to("cpu", dtype, copy=True)
    if dtype.is_floating_point:
        return torch.randn(buffer.shape, dtype=dtype)
    raise UnfitError(f"its buffer {name!r} holds {nbytes_of(buffer)} bytes that are not read")

"""Tensors of a module: copies of their values, and the way back."""

from collections.abc import Mapping

import torch
from torch import nn

from modswap.nn.inherit.respelling import tensors_of
from modswap.ops.heal.fitting.sharded import part_of_value


def copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return copies of tensors by their names."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def fill(tensors: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    """Put values into tensors of the same names, each in its own dtype and place."""
    for name, value in values.items():
        tensors[name].copy_(part_of_value(value, tensors[name]))


def values_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of the values of a module."""
    return copied(tensors_of(module))


def put_values(module: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Put values into a module."""
    fill(tensors_of(module), values)

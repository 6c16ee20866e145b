"""A model of which every process holds a part: of its parameters, gradients and moments."""

import copy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn

from modswap.live_values import map_tensors, named_tensors
from modswap.ops.heal import ranks
from modswap.ops.run.devices import device_of

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@contextmanager
def sharded(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a copy of a model in parts; the model takes its values after the block.

    The members of lists of modules are gathered one after another, all else at once.
    """
    # imported here: it takes a second, and few runs need it
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    made = copy.deepcopy(model)
    mesh = init_device_mesh(device_of(model).type, (ranks.world(),))
    for unit in (*_members(made), made):
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    yield made
    # not after an error: the other processes would wait elsewhere, and the error be lost
    if ranks.world() > 1:  # else this process went on alone
        values = whole_values(named_tensors(made))
        with torch.no_grad():
            for name, tensor in named_tensors(model).items():
                tensor.copy_(values[name])


def _members(model: nn.Module) -> list[nn.Module]:
    """Return the members of lists of modules that have parameters, the inner ones first."""
    lists = [one for one in model.modules() if isinstance(one, nn.ModuleList | nn.Sequential)]
    found = [each for one in lists if len(one) > 1 for each in one if [*each.parameters()]]
    return [*{id(each): each for each in reversed(found)}.values()]


def is_sharded(model: nn.Module) -> bool:
    """Return whether the processes hold a model in parts: all of them run each of its passes."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # without it there are no parts
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def whole_values(value: Any) -> Any:
    """Return nested containers with whole tensors in the place of parts; all processes ask."""
    return map_tensors(lambda each: each.full_tensor() if _is_part(each) else each, value)


def part_of_value(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the part of a whole tensor that this process holds of another; else the tensor."""
    if not _is_part(like) or _is_part(whole):
        return whole
    from torch.distributed.tensor import distribute_tensor

    moved = whole.to(like.device, like.dtype)
    return distribute_tensor(moved, like.device_mesh, like.placements)


def _is_part(value: torch.Tensor) -> TypeGuard["DTensor"]:
    tensor = sys.modules.get("torch.distributed.tensor")  # without it there are no parts
    return tensor is not None and isinstance(value, tensor.DTensor)


def put_parts(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer, into which whole moments were loaded, the parts of this process."""
    for parameter, held in optimizer.state.items():
        state: Mapping[str, Any] = dict(held)
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                held[name] = part_of_value(value, parameter)

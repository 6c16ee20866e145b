"""A copy of a model to heal: of its own are the weights that may change, the others are shared."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from modswap.core.asked.healing import HealingRequest
from modswap.core.errors import UsageError
from modswap.live_values import named_tensors
from modswap.nn.inherit.respelling import tensors_of
from modswap.ops.apply import module_at
from modswap.ops.heal.sites import HealedSite
from modswap.ops.heal.tensors import put_values
from modswap.ops.run.describe import one_line
from modswap.ops.run.devices import device_asked
from modswap.ops.run.forward import half_of


def working_copy(
    model: nn.Module, learned: Iterable[nn.Module], request: HealingRequest
) -> nn.Module:
    """Return a copy of a model in which the new modules and the batch norms can change.

    All else is shared with the model, unless another device or precision is needed, or all weights
    are to change.
    """
    device = device_asked(request.device)
    try:
        return _copy(model, learned, request, device)
    except (RuntimeError, TypeError) as error:
        what = f"the model cannot be copied: {one_line(error)}"
        raise UsageError(
            what, "heal", "make its tensors parameters, buffers or detached"
        ) from error


def _copy(
    model: nn.Module, learned: Iterable[nn.Module], request: HealingRequest, device: torch.device
) -> nn.Module:
    if request.everything or half_of(model) is not None or device.type != "cpu":
        return _cast(copy.deepcopy(model), device)
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm))
    own = {id(tensor) for module in (*learned, *norms) for tensor in named_tensors(module).values()}
    shared = {id(t): t for t in named_tensors(model).values() if id(t) not in own}
    return copy.deepcopy(model, shared)


def running(model: nn.Module, request: HealingRequest) -> nn.Module:
    """Return the original on the device and in the precision of a healing."""
    device = device_asked(request.device)
    if half_of(model) is None and device.type == "cpu":
        return model
    return _cast(copy.deepcopy(model), device)


def _cast(model: nn.Module, device: torch.device) -> nn.Module:
    return model.to(device, torch.float32 if half_of(model) is not None else None)


def moved(
    sites: Sequence[HealedSite], original: nn.Module, model: nn.Module
) -> tuple[HealedSite, ...]:
    """Return the same sites in copies of both models."""
    return tuple(_moved(sites, original, model))


def _moved(
    sites: Sequence[HealedSite], original: nn.Module, model: nn.Module
) -> Iterator[HealedSite]:
    for site in sites:
        old, new = module_at(original, site.path), module_at(model, site.path)
        learned = module_at(model, site.paths[0])
        yield replace(site, old=old, new=new, learned=learned)


def taken_back(healed: nn.Module, module: nn.Module) -> nn.Module:
    """Return a copy of a module with the values of its healed copy, in its own dtype and place."""
    made = copy.deepcopy(module)
    take_values(made, healed)
    return made


def take_values(module: nn.Module, healed: nn.Module) -> None:
    """Give a module the values of its healed copy, which may have a linear map beside it."""
    own = tensors_of(module)
    put_values(module, {name: one for name, one in tensors_of(healed).items() if name in own})

"""Weights that a layer computes before each pass, by weight norm and the like, as plain ones."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_HOOKS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)


def computed_weights(module: nn.Module) -> dict[str, str]:
    """Return what computes each weight of a module that is computed, by the weight's name."""
    found = {}
    for path, layer in module.named_modules():
        start = f"{path}." if path else ""
        for name, kind in _computed(layer):
            found[f"{start}{name}"] = kind
    return found


def _computed(layer: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of the tensors that a layer computes, with the class that does."""
    for name, steps in _parametrized(layer).items():
        yield name, ", ".join(type(step).__name__.strip("_") for step in steps)
    for hook in _own(layer, "_forward_pre_hooks").values():
        if isinstance(hook, _HOOKS):
            yield _hooked_name(hook), type(hook).__name__


def _parametrized(layer: nn.Module) -> Mapping[str, nn.ModuleList]:
    if not parametrize.is_parametrized(layer):
        return {}
    return dict(layer.parametrizations.items())  # type: ignore[union-attr,operator] # a ModuleDict


def _hooked_name(hook: object) -> str:
    """Return the name of the tensor that a hook of torch computes; pruning has it as private."""
    return str(getattr(hook, "name", None) or vars(hook)["_tensor_name"])


def make_plain(module: nn.Module) -> None:
    """Put the values of a module's computed weights into it, and compute them no more.

    The module must be a copy: its layers get other classes, and lose hooks.
    """
    module.eval()  # spectral norm changes its vectors in training
    for layer in [*module.modules()]:
        names = [name for name, _ in _computed(layer)]
        with torch.no_grad():
            values = {name: _value(layer, name) for name in names}
        if parametrize.is_parametrized(layer):
            # not by `remove_parametrizations`: copies share the class from which it takes names
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            del layer.parametrizations
        _unhook(layer)
        for name, value in values.items():
            vars(layer).pop(name, None)
            layer.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _value(layer: nn.Module, name: str) -> torch.Tensor:
    """Return the value of a computed tensor as evaluation has it."""
    for hook in _own(layer, "_forward_pre_hooks").values():
        if isinstance(hook, _HOOKS) and _hooked_name(hook) == name:
            hook(layer, ())  # none of them reads the inputs
    value: torch.Tensor = getattr(layer, name)
    return value.detach().clone()


def _unhook(layer: nn.Module) -> None:
    """Take torch's hooks off a layer, and the tensors from which they compute."""
    hooks = _own(layer, "_forward_pre_hooks")
    for key, hook in [*hooks.items()]:
        if not isinstance(hook, _HOOKS):
            continue
        name = _hooked_name(hook)
        for suffix in ("_g", "_v", "_u", "_orig", "_mask"):
            _own(layer, "_parameters").pop(f"{name}{suffix}", None)
            _own(layer, "_buffers").pop(f"{name}{suffix}", None)
        del hooks[key]
    _unhook_state(layer)


def _unhook_state(layer: nn.Module) -> None:
    """Take the hooks off that write and read the tensors of spectral norm."""
    for table in ("_state_dict_hooks", "_load_state_dict_pre_hooks"):
        hooks = _own(layer, table)
        for key, hook in [*hooks.items()]:
            inside = getattr(hook, "hook", hook)  # torch wraps some
            if type(inside).__name__.startswith("SpectralNorm"):
                del hooks[key]


def _own(layer: nn.Module, table: str) -> dict[Any, Any]:
    """Return a table of torch's inside a layer."""
    found: dict[Any, Any] = vars(layer)[table]
    return found


def plain_values(
    module: nn.Module, state: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Return the tensors of a module's plain form, by the values of the module itself."""
    held = {**dict(module.named_buffers()), **_attributes(module)}
    memo = {id(tensor): tensor.detach() for tensor in held.values()}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name in state:
            value = _wide(state[name].detach())
            is_weight = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(value, requires_grad=False) if is_weight else value
    plain = copy.deepcopy(module, memo)
    make_plain(plain)
    return plain.state_dict()


def _attributes(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that are attributes of layers, as the old hooks leave them."""
    return {
        f"{path}.{name}": value
        for path, layer in module.named_modules()
        for name, value in vars(layer).items()
        if isinstance(value, torch.Tensor)
    }


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in single precision where it is narrower."""
    narrow = tensor.is_floating_point() and tensor.element_size() < 4
    return tensor.float() if narrow else tensor

"""Layers whose sizes torch leaves to the first pass: they get those of a file's weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from modswap.ops.load.factory import Factory


def give_sizes(model: nn.Module, weights: Mapping[str, torch.Tensor], factory: Factory) -> None:
    """Give lazy layers the sizes of their weights in a file, as a first pass would.

    Raises:
        ModswapError: Of the factory's kind, if the file lacks weights of a lazy layer.
    """
    for path, module in model.named_modules():
        if not isinstance(module, LazyModuleMixin):
            continue
        lacking = _materialize(module, f"{path}." if path else "", weights)
        if lacking:
            what = f"{path!r} is a {type(module).__name__}, whose sizes the first pass sets, and "
            what += f"the file has no {lacking!r} to take them from"
            raise factory.error(what, factory.where, "run the model once in the factory")
        _settle(module)


def _materialize(module: Any, prefix: str, weights: Mapping[str, torch.Tensor]) -> str:
    """Make the tensors of a layer; return the name of one that the weights lack, or nothing."""
    own = {
        **dict(module.named_parameters(recurse=False)),
        **dict(module.named_buffers(recurse=False)),
    }
    for name, tensor in own.items():
        if not is_lazy(tensor):
            continue
        if f"{prefix}{name}" not in weights:
            return f"{prefix}{name}"
        unset: Any = tensor
        unset.materialize(weights[f"{prefix}{name}"].shape)
    return ""


def _settle(module: Any) -> None:
    """Make a layer what it is after its first pass: its sizes are set, and its class is plain."""
    if hasattr(module, "in_features"):
        module.in_features = module.weight.shape[1]
    if hasattr(module, "in_channels"):
        shape = module.weight.shape
        module.in_channels = shape[0] if module.transposed else shape[1] * module.groups
    if hasattr(module, "num_features"):
        given = module.weight if module.weight is not None else module.running_mean
        module.num_features = len(given)
    for name in ("_initialize_hook", "_load_hook"):
        getattr(module, name).remove()
        delattr(module, name)
    if module.cls_to_become is not None:
        module.__class__ = module.cls_to_become

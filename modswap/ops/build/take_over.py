"""Give a new module the device, dtype, mode and plain attributes of its site."""

import dis
import sys
from collections.abc import Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from modswap.core.seen.site import Site
from modswap.io.formats.exported.program import is_stand_in

WITHOUT_FAST_PATH: Mapping[str, Any] = {"in_proj_bias": None, "_qkv_same_embed_dim": False}


def take_over(module: nn.Module, site: Site, carried: Mapping[str, Any]) -> tuple[str, ...]:
    """Give a new module the device, dtype, mode and host attributes of its site; return notes."""
    notes: list[str] = []
    dtype: torch.dtype = getattr(torch, site.dtype)
    module.to(device=site.device, dtype=dtype if dtype.is_floating_point else None)
    if site.channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs forget it
    module.train(site.training)
    if not site.trainable:
        module.requires_grad_(requires_grad=False)
        notes.append("frozen, as the old module's parameters were")
    carry_over(module, carried)
    if carried:
        notes.append(f"carried over attributes that the host set: {', '.join(sorted(carried))}")
    return tuple(notes)


def carry_over(module: nn.Module, carried: Mapping[str, Any]) -> None:
    """Set plain attributes on a new module, except names that it has already."""
    vars(module).update({n: value for n, value in carried.items() if n not in vars(module)})


def carry_over_from(old: nn.Module, module: nn.Module) -> None:
    """Set the attributes on a new module that the code around the old one may read.

    Torch's encoder layers read those of their attention, and then its weights past its forward,
    unless it seems to have no bias.
    """
    carry_over(module, host_attributes(old))
    if isinstance(old, nn.MultiheadAttention):
        read = {"batch_first": old.batch_first, **WITHOUT_FAST_PATH}
        # an attention of torch's kind has them, its bias as a parameter
        carry_over(module, {n: value for n, value in read.items() if not hasattr(module, n)})


def host_attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that the code of its own class does not set.

    A host framework puts them on from outside, such as the indices by which a detector connects its
    layers.
    """
    if is_stand_in(module):
        return {}  # torch's own attributes belong to its graph
    own = set(vars(nn.Module())) | assigned(type(module).__mro__)
    return {
        name: value
        for name, value in vars(module).items()
        if name not in own
        and not name.startswith("__")
        and not isinstance(value, (torch.Tensor, nn.Module))
    }


def unknown_attributes(
    module: nn.Module, class_name: str, attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the attributes in a file that neither the old nor the new module's class sets.

    The old class, given by its dotted name, is looked at only if it is torch's or modswap's own and
    already imported; the file does not say which attributes another class sets.
    """
    own = set(vars(module)) | assigned(type(module).__mro__)
    package, _, name = class_name.rpartition(".")
    if package.startswith(("torch.nn.", "modswap.nn.")):
        old = getattr(sys.modules.get(package), name, None)
        own |= assigned(old.__mro__) if isinstance(old, type) else set()
    return {name: value for name, value in attributes.items() if name not in own}


def assigned(classes: Sequence[type]) -> set[str]:
    """Return the names of attributes that classes define, or assign in their functions."""
    names: set[str] = set()
    for cls in classes:
        if cls in {object, nn.Module}:
            continue
        names.update(vars(cls))
        names.update(getattr(cls, "__annotations__", ()))
        for member in vars(cls).values():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                names |= _stored(function.__code__)
    return names


def _stored(code: CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _stored(constant)
    # an attribute set by its name in a string, as in setattr(self, "bias", …)
    if "setattr" in code.co_names:
        names |= {text for text in code.co_consts if isinstance(text, str)}
    return names

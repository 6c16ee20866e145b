"""Judge which classes of an allowed package can be built without running code of theirs.

These are layers, whose methods the user runs anyway, and plain data: enumerations, named tuples,
dataclasses, namespaces and known classes of settings.
"""

import argparse
import enum
import types
from collections.abc import Iterable
from typing import Literal

from torch import nn

from modswap.io.formats.torch.shells import bases_of, home_of, namespace, of_python, shell_of

Kind = Literal["layer", "attributes", "enum", "tuple", "known"]

# settings that keep everything in their attributes, of libraries whose checkpoints hold them
_SETTINGS = frozenset({
    "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "omegaconf.base.Node",
    "transformers.configuration_utils.PreTrainedConfig",
    "transformers.configuration_utils.PretrainedConfig",
    "transformers.generation.configuration_utils.GenerationConfig",
})  # fmt: skip
_KNOWN = frozenset({"numpy.dtype"})  # written in C, made of a text and numbers
# what Python itself calls while a pickle is read, or once an object is no longer needed
_OF_METACLASS = ("__eq__", "__getattr__", "__getattribute__", "__hash__")
_OF_MEMBERS = ("__eq__", "__getattr__", "__getattribute__", "__hash__", "__iter__")
_OF_STATE = (
    "__class__", "__getattribute__", "__getnewargs__", "__getnewargs_ex__", "__reduce__",
    "__reduce_ex__", "__setstate__",
)  # fmt: skip


def kind_of(cls: type) -> Kind | None:
    """Return how a class of an allowed package is built; None if that takes code of its own."""
    bases = bases_of(cls)
    if _name(cls) in _KNOWN:
        return "known"
    if _defines(bases_of(type(cls)), _OF_METACLASS) or _defines(bases, ("__del__",)):
        return None
    if nn.Module in bases:
        return "layer"
    if enum.Enum in bases:
        return None if _defines(bases, _OF_MEMBERS) else "enum"
    if any("_fields" in namespace(base) for base in bases) and tuple in bases:
        return None if _defines(bases, (*_OF_MEMBERS, *_OF_STATE)) else "tuple"
    return "attributes" if _holds_attributes(bases) and shell_of(cls) else None


def is_layer_with_new(cls: type) -> bool:
    """Return whether a class is a layer that makes its instances by code of its own."""
    bases = bases_of(cls)
    return nn.Module in bases and _defines(bases, ("__new__",))


def combines_flags(cls: type) -> bool:
    """Return whether an enumeration has members for sums of its flags, by Python's own code."""
    flags = type(cls) is enum.EnumMeta and enum.Flag in bases_of(cls)
    return flags and not _defines(bases_of(cls), ("__new__", "_missing_"))


def _holds_attributes(bases: Iterable[type]) -> bool:
    """Return whether instances are their attributes, and nothing else is restored."""
    if any(_name(base) in _SETTINGS for base in bases):
        return True
    plain = (argparse.Namespace, types.SimpleNamespace)
    data = any(base in plain or "__dataclass_fields__" in namespace(base) for base in bases)
    return data and not _defines(bases, _OF_STATE)


def _name(cls: type) -> str:
    return f"{home_of(cls)}.{vars(type)['__qualname__'].__get__(cls)}"


def _defines(bases: Iterable[type], names: Iterable[str]) -> bool:
    """Return whether a class outside Python and torch defines one of some methods."""
    held = [namespace(base) for base in bases if not of_python(home_of(base))]
    values = (space.get(name) for space in held for name in names)
    return any(
        value is not None and not of_python(getattr(value, "__module__", None)) for value in values
    )

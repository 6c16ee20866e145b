"""Turning live values into what `core` keeps of them."""

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from modswap.core.seen.values import Group, Plain, TensorInfo, Value

DEPTH = 8  # containers inside containers; deeper ones are told by their class
LENGTH = 40  # characters of a plain value


def describe(value: Any, depth: int = 0) -> Value:
    """Return what a value is: shapes and types, no data.

    Args:
        value: A tensor, a container or dataclass of tensors, or anything else.
        depth: How many containers are around it.
    """
    if isinstance(value, torch.Tensor):
        return TensorInfo(tuple(value.shape), dtype_name(value.dtype), str(value.device))
    if depth < DEPTH:
        if isinstance(value, Mapping):
            return _group(value, value.keys(), value.values(), depth)
        if isinstance(value, (tuple, list)):
            return _group(value, range(len(value)), value, depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return _group(value, names, [getattr(value, name, None) for name in names], depth)
    text = repr(value) if isinstance(value, (int, float, str, bool, type(None))) else ""
    kind = type(value).__name__
    return Plain(kind, text[:LENGTH] or f"<{kind}>")


def _group(value: Any, names: Iterable[Any], items: Iterable[Any], depth: int) -> Group:
    inside = tuple(describe(item, depth + 1) for item in items)
    return Group(type(value).__name__, tuple(map(str, names)), inside)


def live_tensors(value: Any, depth: int = 0) -> list[torch.Tensor]:
    """Return the tensors inside a live value, depth first."""
    if isinstance(value, torch.Tensor):
        return [value]
    if depth >= DEPTH:
        return []
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, (tuple, list)):
        items = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return [tensor for item in items for tensor in live_tensors(item, depth + 1)]


def dtype_name(dtype: torch.dtype) -> str:
    """Return `float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def class_name(value: object) -> str:
    """Return the dotted name of a value's class; a graph goes by the class that it was made of."""
    cls = type(value)
    if cls.__module__ == "torch.export.unflatten":
        return str(value.type_name() or "torch.nn.modules.module.Module")  # type: ignore[attr-defined] # all of them have it
    return f"{cls.__module__}.{cls.__qualname__}"


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return what an exception says, in one line with its class."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= limit else f"{text[:limit]}…"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def positional(module: nn.Module, count: int) -> tuple[str, ...]:
    """Return what a module's forward calls its first positional inputs."""
    try:
        known = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        known = []
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    names = [parameter.name for parameter in known if parameter.kind in kinds]
    return tuple(names[i] if i < len(names) else f"input {i}" for i in range(count))


def all_finite(outputs: list[Any]) -> bool:
    """Return whether every number of the tensors is finite."""
    return all(bool(torch.isfinite(one).all()) for one in outputs)

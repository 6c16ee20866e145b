"""Describe live values in the types of `core`: shapes, dtypes, class names, errors."""

import inspect
from typing import Any

import torch
from torch import nn

from modswap.core.seen.values import Group, Plain, TensorInfo, Value
from modswap.ops.run.leaves import MAX_DEPTH, items_of

MAX_TEXT_CHARACTERS = 40  # of a plain value


def describe(value: Any, device: str = "", depth: int = 0) -> Value:
    """Return the shapes and types of a value inside `depth` containers, without its data.

    Tensors are described as on `device`, or on their own where it is empty.
    """
    if isinstance(value, torch.Tensor):
        return TensorInfo(tuple(value.shape), dtype_name(value.dtype), device or str(value.device))
    kind = type(value).__name__
    items = items_of(value) if depth < MAX_DEPTH else None
    if items is not None:
        named = dict(items)
        inside = tuple(describe(item, device, depth + 1) for item in named.values())
        return Group(kind, tuple(map(str, named)), inside)
    text = repr(value) if isinstance(value, (int, float, str, bool, type(None))) else ""
    return Plain(kind, text[:MAX_TEXT_CHARACTERS] or f"<{kind}>")


def dtype_name(dtype: torch.dtype) -> str:
    """Return `float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def class_name(value: object) -> str:
    """Return the dotted name of a value's class; a graph has the name of its original class."""
    cls = type(value)
    if cls.__module__ == "torch.export.unflatten":
        return str(value.type_name() or "torch.nn.modules.module.Module")  # type: ignore[attr-defined] # all of them have it
    return f"{cls.__module__}.{cls.__qualname__}"


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the class and message of an exception in one line."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= limit else f"{text[:limit]}…"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def positional(module: nn.Module, count: int) -> tuple[str, ...]:
    """Return the names of the first positional inputs of a module's forward."""
    try:
        known = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        known = []
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    names = [parameter.name for parameter in known if parameter.kind in kinds]
    return tuple(names[i] if i < len(names) else f"input {i}" for i in range(count))


def all_finite(outputs: list[Any]) -> bool:
    """Return whether every floating or complex number of the tensors is finite."""
    floating = (one for one in outputs if one.is_floating_point() or one.is_complex())
    return all(bool(torch.isfinite(one).all()) for one in floating)

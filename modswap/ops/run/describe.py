"""Names and texts of live values: classes, errors, inputs."""

import inspect
from typing import Any

import torch
from torch import nn


def class_name(value: object) -> str:
    """Return the dotted name of a value's class; a graph has the name of its original class."""
    cls = type(value)
    if cls.__module__ == "torch.export.unflatten":
        return str(value.type_name() or "torch.nn.modules.module.Module")  # type: ignore[attr-defined] # all of them have it
    return f"{cls.__module__}.{cls.__qualname__}"


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the class and message of an exception in one line, without the frames of its C++."""
    text = " ".join(str(error).partition("\nException raised from ")[0].split())
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

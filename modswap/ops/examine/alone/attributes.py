"""Attributes of a module beside its parameters, buffers and layers, and what is wrong with them."""

import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

MAX_DEPTH = 4  # containers inside containers; deeper values are not entered
MAX_ITEMS = 64  # of one container
_REGISTERED = frozenset({"_parameters", "_buffers", "_modules"})
Function = (types.FunctionType, types.BuiltinFunctionType)


class Attribute(NamedTuple):
    """A value that a module holds outside its parameters, buffers and layers."""

    name: str  # dotted, from the module that was searched; with the index inside containers
    value: Any


def attributes(module: nn.Module) -> Iterator[Attribute]:
    """Yield every attribute of a module and its layers, items of containers before these."""
    for path, inner in module.named_modules():
        for name, value in vars(inner).items():
            if name not in _REGISTERED:
                yield from _items(f"{path}.{name}".lstrip("."), value, MAX_DEPTH)


def _items(name: str, value: Any, depth: int) -> Iterator[Attribute]:
    if depth and isinstance(value, Mapping):
        for key, item in list(value.items())[:MAX_ITEMS]:
            yield from _items(f"{name}[{key!r:.40}]", item, depth - 1)
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(list(value)[:MAX_ITEMS]):
            yield from _items(f"{name}[{index}]", item, depth - 1)
    yield Attribute(name, value)


def first_refused(module: nn.Module, operation: Callable[[Any], object]) -> Attribute | None:
    """Return the first attribute on whose value an operation raises."""
    for one in attributes(module):
        try:
            operation(one.value)
        except Exception:  # noqa: BLE001 - a value's own code may raise anything
            return one
    return None


def closed_over(module: nn.Module) -> Attribute | None:
    """Return the first function among the attributes that holds a layer or tensor of the module.

    A deep copy of the module shares such a function with it, and so its weights.
    """
    tensors = (*module.parameters(), *module.buffers())
    own = {id(each) for each in (*module.modules(), *tensors)}
    for one in attributes(module):
        if any(id(value) in own for value in _reached(one.value)):
            return one
    return None


def _reached(value: Any) -> Iterable[Any]:
    """Return the values that a function keeps when it is deep-copied."""
    if isinstance(value, partial):
        return _reached(value.func)  # its arguments are copied
    if not isinstance(value, types.FunctionType):
        return ()
    cells = (cell.cell_contents for cell in value.__closure__ or () if _filled(cell))
    return (*cells, *(value.__defaults__ or ()))


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def unregistered(module: nn.Module) -> Attribute | None:
    """Return the first attribute with trained weights that are no parameters of the module."""
    known = {id(parameter) for parameter in module.parameters()}
    for one in attributes(module):
        if any(id(weight) not in known for weight in _weights(one.value)):
            return one
    return None


def _weights(value: Any) -> list[torch.Tensor]:
    if isinstance(value, nn.Module):
        return [weight for weight in value.parameters() if weight.requires_grad]
    trained = isinstance(value, torch.Tensor) and value.requires_grad and value.is_leaf
    return [value] if trained else []


def plain_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors among the attributes, by their names."""
    return {
        one.name: one.value for one in attributes(module) if isinstance(one.value, torch.Tensor)
    }

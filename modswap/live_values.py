"""Walk over live values, containers and dataclasses with tensors inside, and describe them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_map

from modswap.core.seen.tree import sums_below
from modswap.core.seen.values import Group, Plain, TensorInfo, Value

MAX_DEPTH = 8  # containers inside containers; deeper values are not entered
MAX_TEXT_CHARACTERS = 40  # of a plain value


def items_of(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """Return name and value of each item of a container or dataclass; None for anything else."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, (tuple, list)):
        return enumerate(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return [(name, getattr(value, name, None)) for name in names]
    return None


def live_tensors(value: Any, depth: int = 0) -> list[torch.Tensor]:
    """Return the tensors inside a live value, depth first."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = (items_of(value) or ()) if depth < MAX_DEPTH else ()
    return [tensor for _, item in items for tensor in live_tensors(item, depth + 1)]


def named_tensors_in(value: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the tensors inside a live value with their places, `0` or `logits`, depth first."""
    if isinstance(value, torch.Tensor):
        yield place, value
        return
    for name, item in (items_of(value) or ()) if depth < MAX_DEPTH else ():
        yield from named_tensors_in(item, f"{place}.{name}" if place else f"{name}", depth + 1)


def nbytes_of(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor; of a sparse one, those that it would take if it were dense."""
    return tensor.numel() * tensor.element_size()


_BY_ROWS = (torch.sparse_csr, torch.sparse_bsr)
_BY_COLUMNS = (torch.sparse_csc, torch.sparse_bsc)


def plain_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the plain tensors of which a sparse, nested, packed or quantised one consists.

    A plain one is the only part of itself.
    """
    if tensor.is_nested:
        return [part for one in tensor.unbind() for part in plain_parts(one)]
    if tensor.layout is torch.strided:
        return [tensor.int_repr() if tensor.is_quantized else tensor]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]  # noqa: SLF001 - the others want it coalesced
    if tensor.layout in _BY_ROWS:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in _BY_COLUMNS:
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor.to_dense()]


def map_leaves(
    change: Callable[[Any], Any], value: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """Return a copy of nested containers with every leaf changed; sequences keep their class.

    Containers of which `is_leaf` is true are leaves; none is without it.
    """

    def changed(leaf: Any) -> Any:
        if isinstance(leaf, Mapping) and not (is_leaf is not None and is_leaf(leaf)):
            return {name: map_leaves(change, item, is_leaf) for name, item in leaf.items()}
        return change(leaf)

    return tree_map(changed, value, is_leaf=is_leaf)


def map_tensors(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Return a copy of nested containers with every tensor changed, other leaves as they are."""
    return map_leaves(lambda leaf: change(leaf) if torch.is_tensor(leaf) else leaf, value)


class ModulePath(NamedTuple):
    """A path of a module in a model."""

    path: str  # dotted; empty for the model itself
    module: nn.Module
    parent: int  # the number of the path around it; 0 for the model itself
    depth: int  # the number of modules around it


def module_paths(model: nn.Module) -> Iterator[ModulePath]:
    """Yield the paths of all modules in the order of `named_modules`, all those of shared ones.

    torch's own walk goes through all modules around a module to yield it.
    """
    stack = [ModulePath("", model, 0, 0)]
    number = -1
    while stack:
        around = stack.pop()
        number += 1
        yield around
        prefix = f"{around.path}." if around.path else ""
        below = vars(around.module).get("_modules", {})  # a factory may give a module half made
        stack += [
            ModulePath(f"{prefix}{name}", child, number, around.depth + 1)
            for name, child in reversed(below.items())
            if child is not None
        ]


def sizes_below(places: Sequence[ModulePath]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return for each path of a model the elements of parameters, and bytes of all tensors.

    They are those of the module and of all modules in it, each tensor once.
    """
    parents = [place.parent for place in places]
    params, tensors = [], []
    for _, module, *_ in places:
        own = [*module.parameters(recurse=False)]
        params.append([(id(one), one.numel()) for one in own])
        tensors.append(
            [
                ((kind, id(one)), one.numel() * one.element_size())
                for kind, held in enumerate((own, module.buffers(recurse=False)))
                for one in held
            ]
        )
    return sums_below(parents, params), sums_below(parents, tensors)


def named_tensors(model: nn.Module, *, recurse: bool = True) -> dict[str, torch.Tensor]:
    """Return every parameter and buffer by each of its names; without `recurse`, its own ones."""
    parameters = model.named_parameters(recurse=recurse, remove_duplicate=False)
    buffers = model.named_buffers(recurse=recurse, remove_duplicate=False)
    return {**dict(parameters), **dict(buffers)}


def changed_tensors(
    model: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return a changed tensor for each name of a parameter or buffer.

    Two names of one tensor share the changed tensor, as `torch.func.functional_call` demands.
    """
    named = named_tensors(model)
    made = {key: change(each) for key, each in {id(each): each for each in named.values()}.items()}
    return {name: made[id(tensor)] for name, tensor in named.items()}


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

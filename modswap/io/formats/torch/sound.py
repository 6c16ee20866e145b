"""Refuse modules of a file that lack what torch relies on, or hold it as another kind of value."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cache
from numbers import Integral
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from modswap.io.pickled.modules import RUN_ONCE
from modswap.io.pickled.names import key_text
from modswap.io.pickled.walk import entries
from modswap.io.recognise.look import Look

# a file may hold any attributes of a module; torch checks none of them
_HELD: Mapping[str, tuple[type, ...]] = {
    "_modules": (nn.Module, type(None)),
    "_parameters": (torch.Tensor, type(None)),
    "_buffers": (torch.Tensor, type(None)),
}
_ALWAYS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")  # older files lack others
_HOOKS = tuple(name for name, held in vars(nn.Module()).items() if isinstance(held, OrderedDict))
_BESIDE = "_inserted"  # of modswap's modules that have others put in beside them
_UNSHAPED = "never got a shape"
_SPARE_HOOKS = 20_000  # that modules share
_FLAGS = ("_with_kwargs", "_always_called")  # tables of flags for other hooks


def refuse_half_made(payload: Any, look: Look) -> None:
    """Refuse a payload with a module that lacks a part that every module has.

    Modules that share a table of hooks, as shallow copies do, get tables of their own: a hook on
    one of them would run for all.

    Raises:
        CheckpointError: If there is one, or its modules have far more hooks than there are.
    """
    seen: set[int] = set()
    spare = _SPARE_HOOKS
    for path, module in _modules(payload, look):
        wrong = _wrong(module)
        if wrong:
            what = f"its module {path or 'at the top'} ({type(module).__name__}) is half made"
            raise look.error(f"{what}: {wrong}", "save it again where it was made")
        spare -= _part_hooks(vars(module), seen)
        if spare < 0:
            what = f"its modules share over {_SPARE_HOOKS:,} hooks"
            raise look.error(what, "save it again without hooks")


def _part_hooks(held: dict[str, Any], seen: set[int]) -> int:
    """Give a module its own tables of hooks; return the number of hooks that it shared."""
    shared = 0
    for name in _HOOKS:
        table = held.get(name)
        if id(table) in seen and table is not None:
            held[name] = table.copy()
            shared += len(table)
        seen.add(id(table))
    return shared


def _modules(payload: Any, look: Look) -> Iterator[tuple[str, nn.Module]]:
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("", payload)]
    while stack:
        path, value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        below: Any = entries(value)
        if torch.is_tensor(value) and is_lazy(value):
            raise look.error(f"its tensor {path!r} {_UNSHAPED}", RUN_ONCE)
        if isinstance(value, nn.Module):
            yield path, value
            below = vars(value)["_modules"].items()
        stack += [
            (f"{path}.{key_text(key)}" if path else key_text(key), item) for key, item in below
        ]


def _wrong(module: nn.Module) -> str:
    """Return a description of the first part that a module lacks; empty if it is whole."""
    held = vars(module)
    if wrong := next(filter(None, map(_wrong_table, _HELD, map(held.get, _HELD))), ""):
        return wrong
    if wrong := _wrong_tensor(module):
        return wrong
    for table in _HOOKS:
        default = None if table in _ALWAYS else OrderedDict[Any, Any]()
        if not _are_hooks(held.get(table, default), flags=table.endswith(_FLAGS)):
            return f"no table {table!r}"
    return next(_wrong_values(type(module), held), "")


def _wrong_values(cls: type, held: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with attributes that are neither tables nor tensors."""
    if not isinstance(held.get("training"), bool):
        yield "no flag 'training'"
    if not isinstance(held.get("_non_persistent_buffers_set", set()), set):
        yield "no set '_non_persistent_buffers_set'"
    if hasattr(cls, _BESIDE) and not _are_beside(held):
        yield f"no names of its modules in {_BESIDE!r}"
    yield from filter(None, (_wrong_number(held, name) for name in _numbers(cls)))


def _are_beside(held: Mapping[str, Any]) -> bool:
    """Return whether a module names modules that it has as those put in beside it."""
    names = held.get(_BESIDE, ())
    return isinstance(names, tuple) and all(
        isinstance(name, str) and held["_modules"].get(name) is not None for name in names
    )


@cache
def _numbers(cls: type) -> tuple[str, ...]:
    """Return the attributes of a layer that torch declares to be whole numbers."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("torch.nn.")]
    found = [one for base in bases for one in vars(base).get("__annotations__", {}).items()]
    return tuple(dict.fromkeys(name for name, kind in found if kind in (int, "int")))


def _wrong_number(held: Mapping[str, Any], name: str) -> str:
    value = held.get(name, 0)
    if isinstance(value, Integral):
        return ""
    return f"its {name!r} is a {type(value).__name__}, expected a whole number"


def _wrong_tensor(module: nn.Module) -> str:
    tensors = {**vars(module)["_parameters"], **vars(module)["_buffers"]}
    bare = [name for name, tensor in tensors.items() if tensor is not None and is_lazy(tensor)]
    lazy = isinstance(module, LazyModuleMixin)  # such a module makes them when it first runs
    return "" if lazy or not bare else f"its tensor {bare[0]!r} {_UNSHAPED}"


def _wrong_table(name: str, entries: Any) -> str:
    if not isinstance(entries, dict):
        return f"no table {name!r}"
    kinds = _HELD[name]
    if all(isinstance(key, str) and isinstance(value, kinds) for key, value in entries.items()):
        return ""
    return f"its table {name!r} holds an entry of another kind"


def _are_hooks(hooks: Any, *, flags: bool) -> bool:
    return isinstance(hooks, OrderedDict) and (flags or all(map(callable, hooks.values())))

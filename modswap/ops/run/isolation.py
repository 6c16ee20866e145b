"""Keeping a model as it was across a forward pass."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.seeds import kept_random_state

# what is registered on a module; a host may register more during a pass, hooks above all
_TABLES = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


_TORCHS_OWN = frozenset(vars(nn.Module()))  # attributes of every module
_HOLDERS = (dict, list, set)


@contextmanager
def untouched(model: nn.Module, *, training: bool, unreal: bool = False) -> Iterator[None]:
    """Run a block with every module in one mode; put everything back afterwards.

    Put back are each module's own training flag and attributes, what these hold if they are dicts,
    lists or sets, the values of buffers, the random states. Flags are set on each
    module directly: a host's own `train()` may do more than set one.

    Args:
        model: The model that the block runs.
        training: The mode: True for training, False for evaluation.
        unreal: Whether the block runs on stand-ins, so that no buffer needs a copy.
    """
    modules = list(model.modules())
    attributes = [_snapshot(module) for module in modules]
    # version counters do not tell: batch norm's kernels write past them
    buffers = [] if unreal else [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        for module in modules:
            module.training = training
        with kept_random_state():
            yield
    finally:
        for module, saved in zip(modules, attributes, strict=True):
            _restore(module, saved)
        with torch.no_grad():
            for buffer, value in buffers:
                if not buffer.is_inference():
                    buffer.copy_(value)


class _Saved(NamedTuple):
    """What a module holds: attributes, what is registered, what its own dicts, lists, sets hold."""

    plain: dict[str, Any]
    tables: dict[str, dict[str, Any]]
    dicts: tuple[tuple[dict[Any, Any], dict[Any, Any]], ...] = ()
    lists: tuple[tuple[list[Any], list[Any]], ...] = ()
    sets: tuple[tuple[set[Any], set[Any]], ...] = ()


def _snapshot(module: nn.Module) -> _Saved:
    plain = dict(vars(module))
    # most tables are empty, and a large model has thousands of them
    tables = {name: dict(held) for name in _TABLES if (held := plain.get(name))}
    # a cache by size, for one
    own = [v for name in plain.keys() - _TORCHS_OWN if isinstance(v := plain[name], _HOLDERS)]
    if not own:
        return _Saved(plain, tables)
    return _Saved(
        plain,
        tables,
        tuple((one, dict(one)) for one in own if isinstance(one, dict)),
        tuple((one, list(one)) for one in own if isinstance(one, list)),
        tuple((one, set(one)) for one in own if isinstance(one, set)),
    )


def _restore(module: nn.Module, saved: _Saved) -> None:
    now = vars(module)
    _put_back(now, saved.plain)
    for name in _TABLES:
        held, table = now.get(name), saved.tables.get(name)
        if held or table:
            _put_back(now[name], table or {})
    for one, then in saved.dicts:
        _put_back(one, then)
    for row, before in saved.lists:
        if len(row) != len(before) or not all(map(is_, row, before)):
            row[:] = before
    for group, members in saved.sets:
        if group != members:
            group.clear()
            group.update(members)


def _put_back(now: dict[Any, Any], then: dict[Any, Any]) -> None:
    same = len(now) == len(then) and all(map(is_, now.values(), then.values()))
    if not same or now.keys() != then.keys():
        now.clear()
        now.update(then)


def put_back(now: Mapping[str, torch.Tensor], was: Mapping[str, torch.Tensor]) -> None:
    """Give tensors the values that they had; those of another shape stay.

    Args:
        now: Tensors by name, written to.
        was: What they held.
    """
    with torch.no_grad():
        for name, value in was.items():
            if name in now and now[name].shape == value.shape:
                now[name].copy_(value)


def set_mode(module: nn.Module, *, training: bool) -> None:
    """Set the flag of every module: a host's own `train()` may do more."""
    for inner in module.modules():
        inner.training = training

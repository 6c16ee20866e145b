"""Keep a model as it is across a forward pass."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.seeds import kept_random_state

# tables of members of a module, to which a host may add during a pass, hooks above all
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


_ATTRIBUTES_OF_TORCH = frozenset(vars(nn.Module()))
_CONTAINERS = (dict, list, set)  # a cache by size, for one


@contextmanager
def untouched(model: nn.Module, *, training: bool, unreal: bool = False) -> Iterator[None]:
    """Run a block with every module in one mode; put everything back afterwards.

    Each module gets back its training flag, its attributes, the contents of those that are dicts,
    lists or sets, and the values of its buffers; the random states are put back as well. The flag
    is set on each module directly: a host's own `train()` may do more.

    Args:
        model: The model that the block runs.
        training: The mode: True for training, False for evaluation.
        unreal: Whether the block runs on stand-ins, so that no buffer needs a copy.
    """
    modules = list(model.modules())
    attributes = [_snapshot(module) for module in modules]
    # copies, since batch norm's kernels write without raising the version counter
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
    """The state of a module: attributes, registered members, contents of its own containers."""

    attributes: dict[str, Any]
    registered: dict[str, dict[str, Any]]
    held: tuple[tuple[Any, Any], ...]  # each dict, list or set with a copy of it


def _snapshot(module: nn.Module) -> _Saved:
    attributes = dict(vars(module))
    # most tables are empty, and a large model has thousands of them
    registered = {name: dict(table) for name in _TABLES if (table := attributes.get(name))}
    own = (attributes[name] for name in attributes.keys() - _ATTRIBUTES_OF_TORCH)
    held = [(one, kind(one)) for one in own for kind in _CONTAINERS if isinstance(one, kind)]
    return _Saved(attributes, registered, tuple(held))


def _restore(module: nn.Module, saved: _Saved) -> None:
    now = vars(module)
    _put_back(now, saved.attributes)
    for name in _TABLES:
        table, before = now.get(name), saved.registered.get(name, {})
        if table or before:
            _put_back(now[name], before)
    for container, before in saved.held:
        _refill(container, before)


def _refill(now: Any, then: dict[Any, Any] | list[Any] | set[Any]) -> None:
    """Give a container the items that it had; it is written to only if they differ."""
    if isinstance(then, dict):
        _put_back(now, then)
    elif isinstance(then, list):
        if len(now) != len(then) or not all(map(is_, now, then)):
            now[:] = then
    elif now != then:
        now.clear()
        now.update(then)


def _put_back(now: dict[Any, Any], then: dict[Any, Any]) -> None:
    same = len(now) == len(then) and all(map(is_, now.values(), then.values()))
    if not same or now.keys() != then.keys():
        now.clear()
        now.update(then)


def put_back(now: Mapping[str, torch.Tensor], was: Mapping[str, torch.Tensor]) -> None:
    """Give tensors their earlier values; tensors whose shape changed stay as they are.

    Args:
        now: Tensors by name, written to.
        was: The earlier values, by the same names.
    """
    with torch.no_grad():
        for name, value in was.items():
            if name in now and now[name].shape == value.shape:
                now[name].copy_(value)


def set_mode(module: nn.Module, *, training: bool) -> None:
    """Set the training flag of every module; a host's own `train()` may do more than that."""
    for inner in module.modules():
        inner.training = training

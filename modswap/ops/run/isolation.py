"""Keep a model as it is across a forward pass."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from operator import is_
from typing import Any

import torch
from torch import nn

from modswap.ops.run.process_memory import available, bounded_process
from modswap.seeds import kept_random_state

_CONTAINERS = (dict, list, set)


class Snapshot:
    """The attributes of every module of a model, and the contents of their containers.

    It holds for as long as nothing else changes the model for good.
    """

    def __init__(self, model: nn.Module) -> None:
        self._filled: list[tuple[Any, Any]] = []
        self._empty: list[Any] = []  # most are, and a large model has thousands of them
        seen: set[int] = set()
        for module in model.modules():
            own = vars(module)
            for held in (own, *own.values()):
                # a table of hooks, or a host's cache by size; one that modules share counts once
                if not isinstance(held, _CONTAINERS) or id(held) in seen:
                    continue
                seen.add(id(held))
                if held:
                    self._filled.append((held, _copied(held)))
                else:
                    self._empty.append(held)

    def restore(self) -> None:
        """Give every attribute and container back what it had."""
        for container, before in self._filled:
            _refill(container, before)
        for container in self._empty:
            if container:
                container.clear()


@contextmanager
def untouched(
    model: nn.Module,
    *,
    training: bool | None,
    unreal: bool = False,
    snapshot: Snapshot | None = None,
) -> Iterator[None]:
    """Run a block with every module in one mode, None: its own; restore the model afterwards.

    Restored are the training flag of each module, its attributes, the contents of dicts, lists and
    sets among them, the values of its buffers, and the random states. The flag is set on each
    module directly: a host's own `train()` may do more. An `unreal` block runs on stand-ins, so
    that no buffer needs a copy. Any other block takes no more memory than the machine has free. A
    `snapshot` of the model, which block after block may share, saves the time to take one.
    """
    snapshot = snapshot or Snapshot(model)
    # copies, since batch norm's kernels write without raising the version counter
    buffers = [] if unreal else [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        if training is not None:
            set_mode(model, training=training)
        with kept_random_state(), _bounded(unreal=unreal):
            yield
    finally:
        snapshot.restore()
        with torch.no_grad():
            for buffer, value in buffers:
                if not buffer.is_inference():
                    buffer.copy_(value)


def _bounded(*, unreal: bool) -> AbstractContextManager[None]:
    """Return a bound to the memory of a pass: what the machine has free, if the pass is real."""
    return bounded_process(None if unreal else available())


def _copied(held: Any) -> dict[Any, Any] | list[Any] | set[Any]:
    if isinstance(held, dict):
        return dict(held)
    return list(held) if isinstance(held, list) else set(held)


def _refill(now: Any, then: dict[Any, Any] | list[Any] | set[Any]) -> None:
    """Restore the items of a container; it is written to only if they differ."""
    items, earlier = _items(now), _items(then)
    if len(items) == len(earlier) and all(map(is_, items, earlier)):
        return
    if isinstance(then, list):
        now[:] = then
    else:
        now.clear()
        now.update(then)


def _items(held: Any) -> list[Any]:
    return [*held, *held.values()] if isinstance(held, dict) else list(held)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread in a block, so that sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def put_back(now: Mapping[str, torch.Tensor], was: Mapping[str, torch.Tensor]) -> None:
    """Restore the values of tensors by name; a tensor whose shape changed is left as it is."""
    with torch.no_grad():
        for name, value in was.items():
            if name in now and now[name].shape == value.shape:
                now[name].copy_(value)


def set_mode(module: nn.Module, *, training: bool) -> None:
    """Set the training flag of every module directly: a host's own `train()` may do more."""
    for inner in module.modules():
        inner.training = training

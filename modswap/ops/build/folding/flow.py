"""The linear layers and batch norms of a module as a pass calls them, and what each is given."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.live_values import live_tensors
from modswap.nn.folded_layers import LINEAR, NORMS


class ModuleInputs(NamedTuple):
    """The inputs of a call."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def dtype(self) -> torch.dtype | None:
        """Return the dtype of the first floating tensor."""
        tensors = live_tensors((self.args, dict(self.kwargs)))
        return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)

    def copied(self, dtype: torch.dtype | None = None) -> "ModuleInputs":
        """Return inputs that a module may change in place, their floating tensors in a dtype."""

        def change(tensor: torch.Tensor) -> torch.Tensor:
            own = tensor.detach().clone()
            return own.to(dtype) if tensor.is_floating_point() else own

        return self._changed(change)

    def drawn(self) -> "ModuleInputs":
        """Return inputs with other values of the same signs; zeros alone become normal values."""

        def change(tensor: torch.Tensor) -> torch.Tensor:
            own = tensor.detach().clone()
            if not tensor.is_floating_point():
                return own
            return own.mul_(torch.empty_like(own).uniform_(0.5, 2)) if own.any() else own.normal_()

        return self._changed(change)

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "ModuleInputs":
        """Return a copy with every tensor changed; what was one tensor stays one."""
        tensors = live_tensors((self.args, dict(self.kwargs)))
        return copy.deepcopy(self, {id(one): change(one) for one in tensors})

    def run(self, module: nn.Module) -> Any:
        """Return the output of a module for a copy of the inputs."""
        made = self.copied()
        return module(*made.args, **made.kwargs)


@contextmanager
def recorded(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, ModuleInputs]]:
    """Record what modules are given in a block, by path; the last call of each."""
    found: dict[str, ModuleInputs] = {}
    hooks = []
    for path, module in modules.items():

        def note(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            found[path] = ModuleInputs(args, kwargs).copied()

        hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True, slots=True)
class LayerCall:
    """A call of a linear layer or batch norm; tensors are compared by identity."""

    path: str
    layer: nn.Module
    given: torch.Tensor
    gave: torch.Tensor


def layer_calls(module: nn.Module, inputs: ModuleInputs) -> list[LayerCall]:
    """Return the calls of linear layers and batch norms in a pass of a module, in their order."""
    found: list[LayerCall] = []
    hooks = []
    for path, layer in module.named_modules():
        if type(layer) not in {*LINEAR, *NORMS}:
            continue

        def note(own: nn.Module, args: Any, gave: Any, path: str = path) -> None:
            if args and isinstance(args[0], torch.Tensor):
                found.append(LayerCall(path, own, args[0], gave))

        hooks.append(layer.register_forward_hook(note))
    try:
        inputs.run(module)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def normed(calls: list[LayerCall]) -> Iterator[tuple[LayerCall, LayerCall]]:
    """Yield each linear layer with the batch norm that is given its output."""
    for norm in calls:
        for linear in calls:
            kinds = type(norm.layer) in NORMS and type(linear.layer) in LINEAR
            if kinds and norm.given is linear.gave:
                yield linear, norm


def same_input(calls: list[LayerCall]) -> list[list[LayerCall]]:
    """Return the calls that are given one tensor and give tensors of one shape, in groups."""
    groups: dict[tuple[int, torch.Size], list[LayerCall]] = {}
    for call in calls:
        groups.setdefault((id(call.given), call.gave.shape), []).append(call)
    return [group for group in groups.values() if len(group) > 1]

"""The last linear layer of a module, refitted on the features that the module gives it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modswap.ops.heal.closed.maps import View, tensor_of, view_as
from modswap.ops.heal.passes import Observed, cloned

Linear = nn.Linear | nn.Conv1d | nn.Conv2d
_RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class LastLayer:
    """A linear layer whose output is that of its module, but for the order of axes.

    Args:
        path: Its path in the module.
        layer: The layer.
        back: Returns a target of the module in the axes of the layer's output.
    """

    path: str
    layer: Linear
    back: View

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the layer's input or output with a row for each place."""
        if isinstance(self.layer, nn.Linear):
            return tensor.flatten(0, -2)
        return tensor.flatten(2).transpose(1, 2).flatten(0, 1)


def last_layer(module: nn.Module, call: Observed) -> LastLayer | None:
    """Return the last linear layer of a module, found by a call; None if there is none."""
    seen: list[tuple[str, Linear, torch.Tensor]] = []
    handles = []
    for path, layer in module.named_modules():
        if _is_linear(layer):

            def note(own: Any, _: Any, output: torch.Tensor, path: str = path) -> None:
                seen.append((path, own, output.clone()))

            handles.append(layer.register_forward_hook(note))
    try:
        with torch.no_grad():
            output = tensor_of(module(*cloned(call.args), **cloned(call.kwargs)))
    finally:
        for handle in handles:
            handle.remove()
    paths = [path for path, _, _ in seen]
    for path, layer, given in reversed(seen):
        if output is not None and paths.count(path) == 1:
            back = view_as(given, output)
            if back is not None:
                return LastLayer(path, layer, back)
    return None


def _is_linear(layer: nn.Module) -> bool:
    """Return whether a layer is a linear map of the channels of each place."""
    if type(layer) is nn.Linear:
        return True
    if type(layer) not in {nn.Conv1d, nn.Conv2d}:
        return False
    conv: Any = layer
    ones = all(side == 1 for side in (*conv.kernel_size, *conv.stride))
    return ones and conv.groups == 1 and not any(conv.padding)


@torch.no_grad()
def refit(
    module: nn.Module, last: LastLayer, calls: Iterable[Observed], ridge: float = _RIDGE
) -> None:
    """Give a module's last layer the weights that fit its targets best, by ridge regression.

    The other layers stay, and all of them take part in what the layer is given.
    """
    biased = last.layer.bias is not None
    gram = cross = None
    with _features(last.layer) as features:
        for call in calls:
            target = tensor_of(call.target)
            if target is None:
                continue
            features.clear()
            module(*cloned(call.args), **cloned(call.kwargs))
            given = last.rows(features[0])
            wanted = last.rows(last.back(target)).to(given)
            given = torch.cat([given, given.new_ones(len(given), 1)], 1) if biased else given
            first, second = (given.T @ given).double(), (given.T @ wanted).double()
            gram = first if gram is None else gram + first
            cross = second if cross is None else cross + second
    if gram is None or cross is None:
        return
    own = gram.diagonal()[: last.layer.weight.shape[1]]
    shift = torch.zeros_like(gram.diagonal())
    shift[: len(own)] = ridge * own.mean().clamp(min=1e-30)  # the bias is not held small
    fitted = torch.linalg.lstsq(gram + torch.diag(shift), cross).solution
    weight = fitted[: len(own)].T
    last.layer.weight.copy_(weight.reshape(last.layer.weight.shape))
    if last.layer.bias is not None:
        last.layer.bias.copy_(fitted[-1])


@contextmanager
def _features(layer: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Note in a block what a layer is given."""
    found: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    try:
        yield found
    finally:
        handle.remove()

"""The last linear layer of a module, refitted on the features that the module gives it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.ops.heal import ranks
from modswap.ops.heal.closed.maps import tensor_of
from modswap.ops.heal.passes import SiteCall, cloned

Linear = nn.Linear | nn.Conv1d | nn.Conv2d
_RIDGE = 1e-4
_MOST_ROWS = 1 << 24  # numbers up to which single precision counts exactly


class Places(NamedTuple):
    """For every value of a module's output, the row and the channel of the layer's that it is."""

    rows: torch.Tensor
    channels: torch.Tensor


@dataclass(frozen=True, slots=True)
class LastLayer:
    """A linear layer whose output is that of its module, but for the places of its values.

    Args:
        path: Its path in the module.
        layer: The layer.
    """

    path: str
    layer: Linear

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the layer's input or output with a row for each place."""
        if isinstance(self.layer, nn.Linear):
            return tensor.flatten(0, -2)
        return tensor.flatten(2).transpose(1, 2).flatten(0, 1)

    def numbered(self, output: torch.Tensor) -> Places:
        """Return the row and the channel of every value of the layer's output."""
        first = isinstance(self.layer, nn.Linear)
        shape = output.shape[:-1] if first else (len(output), *output.shape[2:])
        count, channels = output.numel() // self.outputs, torch.arange(self.outputs)
        rows = torch.arange(count, dtype=output.dtype, device=output.device).view(shape)
        rows = rows[..., None] if first else rows[:, None]
        channels = channels.to(output).view(-1, *[1] * (0 if first else output.ndim - 2))
        return Places(rows.expand_as(output), channels.expand_as(output))

    @property
    def outputs(self) -> int:
        """Return the channels of its output."""
        return self.layer.weight.shape[0]

    @property
    def inputs(self) -> int:
        """Return the channels of its input."""
        return self.layer.weight.shape[1]


@torch.no_grad()
def last_layer(module: nn.Module, call: SiteCall) -> LastLayer | None:
    """Return the last linear layer of a module, found by a call; None if there is none."""
    ran: list[tuple[str, Linear]] = []
    handles = []
    for path, layer in module.named_modules():
        if _is_linear(layer):

            def note(own: Any, _: Any, __: Any, path: str = path) -> None:
                ran.append((path, own))

            handles.append(layer.register_forward_hook(note))
    try:
        module(*cloned(call.args), **cloned(call.kwargs))
    finally:
        for handle in handles:
            handle.remove()
    paths = [path for path, _ in ran]
    for path, layer in reversed(ran):
        found = LastLayer(path, layer)
        if paths.count(path) == 1 and _places(module, found, call) is not None:
            return found
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


def _places(module: nn.Module, last: LastLayer, call: SiteCall) -> Places | None:
    """Return where the values of a module's output come from in a layer's; None if it changes them.

    The rest of the module is run on the numbers of the values in their place.
    """
    real: list[torch.Tensor] = []
    whole = _run(module, last.layer, call, lambda y: real.append(y.clone()))
    if whole is None or real[0].numel() > _MOST_ROWS * last.outputs:
        return None
    numbers = last.numbered(real[0])
    rows = _run(module, last.layer, call, lambda _: numbers.rows.clone())
    channels = _run(module, last.layer, call, lambda _: numbers.channels.clone())
    if rows is None or channels is None or not (_whole(rows) and _whole(channels)):
        return None
    found = Places(rows.long(), channels.long())
    source = last.rows(real[0])
    inside = found.rows.amax() < len(source) and found.channels.amax() < last.outputs
    if not inside or bool((found.rows < 0).any()) or bool((found.channels < 0).any()):
        return None
    same = torch.equal(source[found.rows, found.channels], whole)
    return found if same else None


def _whole(numbers: torch.Tensor) -> bool:
    return torch.equal(numbers, numbers.round())


def _run(
    module: nn.Module, layer: nn.Module, call: SiteCall, change: Callable[[torch.Tensor], Any]
) -> torch.Tensor | None:
    """Return a module's output where another output takes the place of a layer's."""
    handle = layer.register_forward_hook(lambda _, __, output: change(output))
    try:
        return tensor_of(module(*cloned(call.args), **cloned(call.kwargs)))
    finally:
        handle.remove()


@torch.no_grad()
def refit(
    module: nn.Module, last: LastLayer, calls: Iterable[SiteCall], ridge: float = _RIDGE
) -> None:
    """Give a module's last layer the weights that fit its targets best, by ridge regression.

    The other layers stay, and all of them take part in what the layer is given.
    """
    biased = last.layer.bias is not None
    gram = cross = None
    known: dict[torch.Size, Places | None] = {}
    for call in calls:
        target = tensor_of(call.target)
        if target is None:
            continue
        if target.shape not in known:
            known[target.shape] = _places(module, last, call)
        places = known[target.shape]
        if places is None or places.rows.shape != target.shape:
            continue
        given = _features(module, last, call)
        given = torch.cat([given, given.new_ones(len(given), 1)], 1) if biased else given
        used = torch.zeros(len(given), dtype=torch.bool, device=given.device)
        used[places.rows] = True
        wanted = given.new_zeros(len(given), last.outputs)
        wanted[places.rows, places.channels] = target.to(wanted)
        given, wanted = given[used], wanted[used]
        first, second = (given.T @ given).double(), (given.T @ wanted).double()
        gram = first if gram is None else gram + first
        cross = second if cross is None else cross + second
    gram, cross = ranks.summed([gram, cross])
    if gram is not None and cross is not None and ranks.first():
        _solve(last.layer, gram, cross, ridge)
    ranks.same(last.layer.parameters())


def _solve(layer: Linear, gram: torch.Tensor, cross: torch.Tensor, ridge: float) -> None:
    inputs = layer.weight.shape[1]
    shift = torch.zeros_like(gram.diagonal())
    level = gram.diagonal()[:inputs].mean().clamp(min=1e-30)
    shift[:inputs] = ridge * level  # the bias is not held small
    fitted = torch.linalg.solve(gram + torch.diag(shift), cross)
    layer.weight.copy_(fitted[:inputs].T.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(fitted[-1])


def _features(module: nn.Module, last: LastLayer, call: SiteCall) -> torch.Tensor:
    """Return what the layer is given in a call, a row for each place."""
    with _given(last.layer) as found:
        module(*cloned(call.args), **cloned(call.kwargs))
    return last.rows(found[0])


@contextmanager
def _given(layer: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Note in a block what a layer is given."""
    found: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: found.append(args[0]))
    try:
        yield found
    finally:
        handle.remove()

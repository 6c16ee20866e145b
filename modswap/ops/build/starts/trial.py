"""Run a module with random weights on small inputs like those of its site."""

from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.core.seen.site import Call
from modswap.core.seen.values import Group, TensorInfo, Value, tensors
from modswap.live_values import live_tensors
from modswap.nn.custom.trial import random_inputs
from modswap.ops.run.isolation import set_mode

SMALL_TOKENS, SMALL_SIDE = 9, 8
MAX_ELEMENTS = 1 << 24  # of the inputs of a trial
CLOSE = 1e-4  # of the largest value: layers may add in another order

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def trial_calls(call: Call) -> list[Call]:
    """Return a call with few small samples, then with small inputs, then as it was recorded."""
    few = _resized(call, lambda shape: (min(shape[0], 2), *shape[1:]) if shape else shape)
    small = _resized(few, _small)
    sizes = [sum(torch.Size(t.shape).numel() for t in _tensors(one)) for one in (small, few, call)]
    calls = dict(zip(sizes, (small, few, call), strict=True))
    return [one for size, one in calls.items() if size <= MAX_ELEMENTS]


def _small(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 3:
        return (shape[0], min(shape[1], SMALL_TOKENS), shape[2])
    if len(shape) == 4:
        # the axis of the channels is not known here: the two that are alike are the map's
        high = 2 if shape[2] == shape[3] else 1
        sides = {high: SMALL_SIDE, high + 1: SMALL_SIDE}
        return tuple(min(size, sides.get(axis, size)) for axis, size in enumerate(shape))
    return shape


def _tensors(call: Call) -> list[TensorInfo]:
    return [tensor for value in call.inputs for tensor in tensors(value)]


def _resized(call: Call, shape_of: Any) -> Call:
    """Return a call whose tensors have other shapes."""

    def resized(value: Value) -> Value:
        if isinstance(value, Group):
            return replace(value, items=tuple(map(resized, value.items)))
        if isinstance(value, TensorInfo):
            return replace(value, shape=shape_of(value.shape))
        return value

    kwargs = tuple((name, resized(value)) for name, value in call.kwargs)
    return replace(call, args=tuple(map(resized, call.args)), kwargs=kwargs)


def drawn(call: Call) -> tuple[Inputs, torch.Tensor]:
    """Return live inputs of a call, further tensors as ones, and the first floating one."""
    args, kwargs = random_inputs(call)
    first = next(t for t in live_tensors([args, kwargs]) if t.is_floating_point())
    for other in live_tensors([args, kwargs]):
        if other is not first:
            other.fill_(0 if other.is_floating_point() else 1)
    return (args, kwargs), first


def output_of(module: nn.Module, inputs: Inputs) -> torch.Tensor:
    """Return the first tensor that a module returns in evaluation mode."""
    set_mode(module, training=False)
    args, kwargs = inputs
    copies = {id(t): t.clone() for t in live_tensors([args, kwargs])}

    def fresh(value: Any) -> Any:
        return copies.get(id(value), value)

    args = tuple(map(fresh, args))
    kwargs = {name: fresh(value) for name, value in kwargs.items()}
    with torch.no_grad():
        return live_tensors(module(*args, **kwargs))[0]


class OldRun(NamedTuple):
    """A run of a module: its inputs, the first floating one of them, and its output."""

    inputs: Inputs
    x: torch.Tensor
    output: torch.Tensor


def first_trial(module: nn.Module, call: Call) -> OldRun | None:
    """Return a run of a module on the smallest inputs that it takes; None if it takes none."""
    for each in trial_calls(call):
        # a module may take only the recorded size
        with suppress(Exception):
            inputs, x = drawn(each)
            return OldRun(inputs, x, output_of(module, inputs))
    return None


def agree(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two outputs are equal but for rounding."""
    if a.shape != b.shape or not bool(torch.isfinite(a).all()):
        return False
    return bool((a - b).abs().max() <= CLOSE * a.abs().max().clamp(min=1e-3))

"""Return the outputs of common layers on tensors without data, by their shapes alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Tensor = torch.Tensor
_WITHOUT_DATA = {Tensor, FakeTensor}


class Shortcuts(TorchFunctionMode):
    """A mode in which common layers return a tensor of the right shape, dtype and strides.

    On meta tensors torch runs these layers in many small steps, some in Python: milliseconds each.
    A layer refuses the same inputs as before. Values are lost and running statistics stay as they
    are, so the mode is for tensors without data. It does not suit autocast, which chooses dtypes in
    steps that it skips.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the output of a function, or a tensor of its shape."""
        named = kwargs or {}
        quick = _TABLE.get(func)
        found = None if quick is None else quick(*args, **named)
        return func(*args, **named) if found is None else found


def like(x: Tensor) -> Tensor | None:
    """Return a tensor of the strides of another; None if those have gaps or another order."""
    if not x.is_floating_point() or type(x) not in _WITHOUT_DATA:
        return None
    # compared with torch's own strides, as those of an axis of length 1 may be any number
    orders = (range(x.ndim), (0, 2, 3, 1)) if x.ndim == 4 else (range(x.ndim),)
    plain = x.stride() in [_strides(x.shape, order) for order in orders]
    return x.new_empty_strided(x.shape, x.stride()) if plain else None


def _strides(shape: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a tensor without gaps, its axes ordered from the largest stride."""
    found = [1] * len(shape)
    step = 1
    for axis in reversed(order):
        found[axis] = step
        step *= max(shape[axis], 1)
    return tuple(found)


def _unary(x: Tensor, *args: Any, **named: Any) -> Tensor | None:
    if named.get("inplace") or any(arg is True for arg in args) or named.get("out") is not None:
        return None
    return like(x)


def _binary(x: Any, y: Any, *args: Any, **named: Any) -> Tensor | None:
    """Return the sum or product of two tensors of the same strides, or of a tensor and a number."""
    if args or named or not isinstance(x, Tensor):
        return None
    if isinstance(y, int | float):
        return like(x)
    return like(x) if type(y) is type(x) and follows(y, x) else None


def follows(other: Tensor, first: Tensor) -> bool:
    """Return whether the output of both tensors has the shape, dtype and strides of the first."""
    if other.dtype != first.dtype:
        return False
    strides = first.stride()
    if (other.shape, other.stride()) == (first.shape, strides):
        return True
    # a gate: each axis is that of the map, or of length 1; equal strides would leave the order open
    gate = other.ndim == first.ndim and len(set(strides)) == first.ndim
    return gate and all(b in {a, 1} for a, b in zip(first.shape, other.shape, strict=True))


def _joined(tensors: Any, dim: int = 0, **named: Any) -> Tensor | None:
    """Return the joined tensors, if the order of their axes is plain, and so that of the output."""
    if named or not isinstance(tensors, list | tuple) or not all(map(_has_plain_order, tensors)):
        return None
    forms = {(one.ndim, one.dtype) for one in tensors}
    if len(forms) != 1 or not -tensors[0].ndim <= dim < tensors[0].ndim:
        return None
    dim %= tensors[0].ndim
    (rest, *others) = {(*one.shape[:dim], 0, *one.shape[dim + 1 :]) for one in tensors}
    side = sum(one.shape[dim] for one in tensors)
    whole = (*rest[:dim], side, *rest[dim + 1 :])
    return None if others else tensors[0].new_empty(whole)


def _has_plain_order(x: Any) -> bool:
    """Return whether strides say that the axes are in their order, and no other one as well."""
    if type(x) not in _WITHOUT_DATA or x.ndim < 2 or x.stride() != _strides(x.shape, range(x.ndim)):
        return False
    return bool(min(x.shape[1], max(x.shape[2:], default=2)) > 1)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,  # noqa: FBT001, FBT002 - torch's signature
    *_: Any,
    **__: Any,
) -> Tensor | None:
    if x.ndim < 2 or not (training or running_mean is not None):
        return None
    wanted = x.shape[1:2], x.dtype
    for given in (running_mean, running_var, weight, bias):
        if given is not None and (given.shape, given.dtype) != wanted:
            return None
    # a single value for a channel is refused
    return None if training and x.numel() <= x.shape[1] else like(x)


def _layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> Tensor | None:
    if tuple(x.shape[-len(shape) :]) != tuple(shape):
        return None
    if any(t is not None and t.dtype != x.dtype for t in (weight, bias)):
        return None
    return x.new_empty(x.shape)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    del bias
    if x.ndim < 2 or weight.ndim != 2 or x.shape[-1] != weight.shape[1] or x.dtype != weight.dtype:
        return None
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _interpolate(  # noqa: PLR0913, PLR0917 - torch's signature
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,  # noqa: FBT001 - torch's signature
    recompute_scale_factor: bool | None = None,  # noqa: FBT001 - torch's signature
    antialias: bool = False,  # noqa: FBT001, FBT002 - torch's signature
) -> Tensor | None:
    del align_corners, antialias
    if x.ndim != 4 or mode not in {"bilinear", "bicubic"}:
        return None
    return functional.interpolate(
        x, size, scale_factor, "nearest", recompute_scale_factor=recompute_scale_factor
    )


def _recurrent(x: Tensor, *args: Any) -> tuple[Tensor, ...] | None:
    """Return the outputs of a recurrent layer, which torch runs step by step.

    `args` are torch's arguments after the input: first the state, a pair for an LSTM.
    """
    if len(args) != 8:
        return None
    states: tuple[Tensor, ...] = args[0] if isinstance(args[0], tuple) else args[:1]
    output = _sequence(x, states[0], args)
    return None if output is None else (output, *(s.new_empty(s.shape) for s in states))


def _sequence(x: Tensor, hidden: Tensor, args: tuple[Any, ...]) -> Tensor | None:
    """Return the outputs of all steps."""
    _, weights, _, layers, _, _, both_ways, batch_first = args
    # for a packed sequence the second argument is the batch sizes, and the weights follow
    if not isinstance(weights, list) or x.ndim != 3 or 0 in x.shape:
        return None
    x = x.transpose(0, 1) if batch_first else x
    steps, batch, size = x.shape
    ways = 1 + both_ways
    if size != weights[0].shape[1] or {x.dtype} != {w.dtype for w in (hidden, *weights)}:
        return None
    if tuple(hidden.shape[:2]) != (layers * ways, batch):
        return None
    output = x.new_empty((steps, batch, ways * hidden.shape[2]))
    return output.transpose(0, 1) if batch_first else output


_TABLE: Mapping[Callable[..., Any], Callable[..., Any]] = {
    functional.batch_norm: _batch_norm,
    functional.layer_norm: _layer_norm,
    functional.linear: _linear,
    functional.interpolate: _interpolate,
    **dict.fromkeys((functional.relu, functional.silu, torch.relu, torch.sigmoid), _unary),
    **dict.fromkeys((functional.hardswish, functional.leaky_relu, Tensor.sigmoid), _unary),
    functional.gelu: _unary,
    **dict.fromkeys((torch.gru, torch.lstm, torch.rnn_tanh, torch.rnn_relu), _recurrent),
    **dict.fromkeys((torch.add, torch.mul, Tensor.add, Tensor.mul), _binary),
    torch.cat: _joined,
    **dict.fromkeys((Tensor.__add__, Tensor.__mul__, Tensor.__radd__, Tensor.__rmul__), _binary),
}

"""Outputs of common operators on tensors without data, by their shapes alone.

Torch runs these in many small steps of Python, which take 1 to 8 ms each time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from modswap.ops.run.shape_shortcuts import follows, like

_aten = torch.ops.aten
Tensor = torch.Tensor
_EXACT = {torch.float32, torch.float64}  # torch computes in these themselves
_HALF = {torch.bfloat16, torch.float16}


class QuickOutputs(TorchDispatchMode):
    """A mode in which common operators on fake tensors return by shapes alone.

    Models see neither it nor another path because of it, and autocast chooses dtypes before it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Return the output of an operator, or tensors of its shapes."""
        found = None if kwargs else quick_output(func, args)
        return func(*args, **(kwargs or {})) if found is None else found


def quick_output(func: Any, args: tuple[Any, ...]) -> Any:
    """Return what an operator returns on tensors without data; None if only torch can say it.

    The outputs have the shapes, dtypes and strides of torch's own, and storages of their own.
    """
    quick = _TABLE.get(func)
    return None if quick is None or not _without_data(args) else quick(*args)


def _without_data(args: tuple[Any, ...]) -> bool:
    """Return whether all tensors are meta tensors, or all are fake ones on one device."""
    given: list[Any] = [arg for arg in args if isinstance(arg, Tensor)]
    if all(type(tensor) is FakeTensor for tensor in given):
        return {tensor.fake_device.type for tensor in given} == {"cpu"}
    return all(type(t) is not FakeTensor and t.device.type == "meta" for t in given)


def _elementwise(*args: Any) -> Tensor | None:
    first, *rest = (arg for arg in args if isinstance(arg, Tensor))
    return like(first) if all(follows(other, first) for other in rest) else None


def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor | None:  # noqa: FBT001 - torch's
    return None if half_to_float or not -x.ndim <= dim < x.ndim else _plain(x, x.shape)


def _reduced(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor | None:  # noqa: FBT001, FBT002 - torch's
    if not dim or not isinstance(dim, list | tuple):
        return None
    if any(not -x.ndim <= axis < x.ndim for axis in dim):
        return None
    axes = {axis % x.ndim for axis in dim}
    if len(axes) < len(dim) or any(not x.shape[axis] for axis in axes):
        return None
    sides = [1 if axis in axes else side for axis, side in enumerate(x.shape)]
    left = [side for axis, side in enumerate(sides) if keepdim or axis not in axes]
    return _plain(x, left)


def _plain(x: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Return an empty tensor of a shape, if the axes of x have their plain order."""
    if not x.is_floating_point() or not x.is_contiguous() or len(set(x.stride())) < x.ndim:
        return None  # equal strides would leave the order open
    return x.new_empty(shape)


def _bilinear(x: Tensor, size: Sequence[int], *_: Any) -> Tensor | None:
    if not x.is_floating_point():
        return None
    out = x.new_empty((*x.shape[:2], *size))
    if x.is_contiguous():
        return out
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.empty_like(out, memory_format=torch.channels_last) if last else None


def _normalised(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Any, var: Any, *flags: Any
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the output of batch norm, and the statistics that the backward pass reads."""
    training, *_ = flags
    of_channels = [t for t in (weight, bias, mean, var) if t is not None]
    out = _like_normalised(x, of_channels)
    if out is None or not (training or mean is not None) or x.numel() <= x.shape[1]:
        return None
    if type(x) is not FakeTensor:
        kept, dtype = x.shape[1], torch.float32 if x.dtype in _HALF else x.dtype
    else:  # as torch has it for the CPU
        kept, dtype = x.shape[1] if training else 0, x.dtype
    return out, x.new_empty(kept, dtype=dtype), x.new_empty(kept, dtype=dtype)


def _normalised_backward(grad: Tensor, x: Tensor, weight: Tensor | None, *rest: Any) -> Any:
    *_, mask = rest
    exact = x.dtype in _EXACT
    out = _like_normalised(x, [] if weight is None else [weight]) if exact else None
    if out is None or (grad.shape, grad.dtype, grad.stride()) != (x.shape, x.dtype, x.stride()):
        return None
    # as the output mask asks: the gradients of the input, the weight and the bias
    given = (out, x.new_empty(x.shape[1]), x.new_empty(x.shape[1]))
    return tuple(tensor if wanted else None for tensor, wanted in zip(given, mask, strict=True))


def _like_normalised(x: Tensor, of_channels: Sequence[Tensor]) -> Tensor | None:
    """Return an empty tensor like x, if torch normalises it with these tensors."""
    held = {tensor.dtype for tensor in of_channels}
    # half precision may have its statistics in float32
    known = x.dtype in _EXACT or (x.dtype in _HALF and held == {torch.float32})
    if not known or (x.dtype in _EXACT and held - {x.dtype}):
        return None
    if x.ndim < 2 or any(len(tensor) != x.shape[1] for tensor in of_channels):
        return None
    return like(x)


_TABLE: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys((_aten.relu.default, _aten.sigmoid.default), _elementwise),
    **dict.fromkeys((_aten.silu.default, _aten.gelu.default), _elementwise),
    **dict.fromkeys((_aten.add.Tensor, _aten.mul.Tensor), _elementwise),
    _aten.threshold_backward.default: _elementwise,
    **dict.fromkeys((_aten.amax.default, _aten.amin.default, _aten.mean.dim), _reduced),
    getattr(_aten, "_softmax").default: _softmax,  # noqa: B009 - the operator has no public name
    _aten.upsample_bilinear2d.default: _bilinear,
    _aten.native_batch_norm.default: _normalised,
    _aten.native_batch_norm_backward.default: _normalised_backward,
}

"""Outputs of common operators on meta tensors, by their shapes alone.

Torch runs these in many small steps of Python, which take 1 to 8 ms each time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from modswap.ops.run.shape_shortcuts import like

_aten = torch.ops.aten
Tensor = torch.Tensor


def quick_output(func: Any, args: tuple[Any, ...]) -> Any:
    """Return what an operator returns on tensors without data; None if only torch can say it.

    The outputs have the shapes, dtypes and strides of torch's own, and storages of their own.
    """
    quick = _TABLE.get(func)
    if quick is None or any(isinstance(t, Tensor) and t.device.type != "meta" for t in args):
        return None
    return quick(*args)


def _elementwise(*args: Any) -> Tensor | None:
    first, *rest = (arg for arg in args if isinstance(arg, Tensor))
    same = (first.shape, first.dtype, first.stride())
    if any((other.shape, other.dtype, other.stride()) != same for other in rest):
        return None
    return like(first)


def _bilinear(x: Tensor, size: Sequence[int], *_: Any) -> Tensor | None:
    if not x.is_floating_point() or not x.is_contiguous():
        return None
    return x.new_empty((*x.shape[:2], *size))


def _normalised(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Any, var: Any, *flags: Any
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the output of batch norm, and the statistics that the backward pass reads."""
    training, *_ = flags
    of_channels = [t for t in (weight, bias, mean, var) if t is not None]
    out = _like_exact(x, of_channels)
    if out is None or not (training or mean is not None) or x.numel() <= x.shape[1]:
        return None
    return out, x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _normalised_backward(grad: Tensor, x: Tensor, weight: Tensor | None, *rest: Any) -> Any:
    *_, mask = rest
    out = _like_exact(x, [] if weight is None else [weight])
    if out is None or (grad.shape, grad.dtype, grad.stride()) != (x.shape, x.dtype, x.stride()):
        return None
    # as the output mask asks: the gradients of the input, the weight and the bias
    given = (out, x.new_empty(x.shape[1]), x.new_empty(x.shape[1]))
    return tuple(tensor if wanted else None for tensor, wanted in zip(given, mask, strict=True))


def _like_exact(x: Tensor, of_channels: Sequence[Tensor]) -> Tensor | None:
    """Return an empty tensor like x, if torch computes in the dtype of all tensors."""
    exact = x.ndim > 1 and x.dtype in {torch.float32, torch.float64}
    if not exact or any((len(t), t.dtype) != (x.shape[1], x.dtype) for t in of_channels):
        return None
    return like(x)


_TABLE: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys((_aten.relu.default, _aten.sigmoid.default), _elementwise),
    **dict.fromkeys((_aten.silu.default, _aten.gelu.default), _elementwise),
    **dict.fromkeys((_aten.add.Tensor, _aten.mul.Tensor), _elementwise),
    _aten.threshold_backward.default: _elementwise,
    _aten.upsample_bilinear2d.default: _bilinear,
    _aten.native_batch_norm.default: _normalised,
    _aten.native_batch_norm_backward.default: _normalised_backward,
}

"""Quick answers to what takes long on tensors without data, though its shapes are plain."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Tensor = torch.Tensor


class Shortcuts(TorchFunctionMode):
    """A mode in which norms, linear layers and upsampling give a tensor of the right shape.

    On meta tensors torch runs these in many small steps, some in Python: milliseconds each. What
    they refuse, they refuse as before. Values are lost: it is for tensors that have none.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what a function gives, or a tensor of that shape."""
        named = kwargs or {}
        quick = _TABLE.get(func)
        found = None if quick is None else quick(*args, **named)
        return func(*args, **named) if found is None else found


def _batch_norm(
    x: Tensor, mean: Tensor | None = None, *args: Any, training: bool = False, **_: Any
) -> Tensor | None:
    in_training = training or any(arg is True for arg in args)
    if in_training or mean is None or x.ndim < 2 or x.shape[1] != len(mean):
        return None
    return torch.empty_like(x)


def _layer_norm(x: Tensor, shape: Sequence[int], *_: Any, **__: Any) -> Tensor | None:
    fits = tuple(x.shape[-len(shape) :]) == tuple(shape)
    return x.new_empty(x.shape) if fits else None


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


_TABLE: Mapping[Callable[..., Any], Callable[..., Tensor | None]] = {
    functional.batch_norm: _batch_norm,
    functional.layer_norm: _layer_norm,
    functional.linear: _linear,
    functional.interpolate: _interpolate,
}

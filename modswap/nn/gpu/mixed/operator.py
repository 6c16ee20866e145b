"""ACmix on a map as an operation with gradients: eager, and for `torch.compile`."""
# ruff: noqa: ARG001 - of a signature, shapes on fake tensors read a part

from typing import Any

import torch
from torch import Tensor

from modswap.nn.gpu.mixed.passes import MixResult, MixSetting, MixTensors, backward, forward
from modswap.nn.kernels.acmix import mix_projected
from modswap.nn.kernels.local_attention import Geometry


def mix_map(given: MixTensors, setting: MixSetting) -> Tensor:
    """Return the weighted sum of attention and convolution, (N, H, W, C)."""
    kept = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    out: Tensor
    if torch.compiler.is_compiling():
        out = _mix(*given, *setting, kept)[0]
    elif kept:
        out = MapMix.apply(setting, *given)  # type: ignore[no-untyped-call] # torch's own
    else:
        out = forward(given, setting, kept=False).out
    return out


class MapMix(torch.autograd.Function):
    """The operation as autograd records it eagerly."""

    @staticmethod
    def forward(ctx: Any, setting: MixSetting, *tensors: Tensor) -> Tensor:
        """Return the output, and keep what the gradients need."""
        given = MixTensors(*tensors)
        result = forward(given, setting, kept=True)
        ctx.setting = setting
        ctx.save_for_backward(*given, result.attended, result.lse)
        return result.out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; differentiable if autograd says so."""
        (grad,) = gradients
        given, kept = MixTensors(*ctx.saved_tensors[:4]), ctx.saved_tensors[4:]
        if torch.is_grad_enabled():
            return (None, *_differentiably(grad, given, ctx.setting))
        return (None, *backward(grad, given, ctx.setting, MixResult(grad, *kept)))


def plain(given: MixTensors, setting: MixSetting) -> Tensor:
    """Return the same by torch's own operators."""
    heads, window, dilation = setting
    kernel = given.taps.permute(3, 0, 1, 2).to(given.qkv.dtype)
    geometry = Geometry(heads, window, 1, dilation)
    maps = given.qkv.permute(0, 3, 1, 2)
    return mix_projected(maps, given.position, kernel, given.rate, geometry).permute(0, 2, 3, 1)


def _differentiably(grad: Tensor, given: MixTensors, setting: MixSetting) -> list[Tensor | None]:
    """Return the gradients, themselves differentiable."""
    wanted = [tensor for tensor in given if tensor.requires_grad]
    found = torch.autograd.grad(
        plain(given, setting), wanted, grad, create_graph=True, materialize_grads=True
    )
    left = iter(found)
    return [next(left) if tensor.requires_grad else None for tensor in given]


@torch.library.custom_op("modswap::mix_map", mutates_args=())
def _mix(  # noqa: PLR0913, PLR0917 - a torch operator takes tensors and numbers only
    qkv: Tensor,
    position: Tensor,
    taps: Tensor,
    rate: Tensor,
    heads: int,
    window: int,
    dilation: int,
    kept: bool,  # noqa: FBT001 - an operator's argument
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the fields of `MixResult`, the log-sum-exp empty where it is not kept."""
    given = MixTensors(qkv, position, taps, rate)
    out, attended, lse = forward(given, MixSetting(heads, window, dilation), kept=kept)
    return out, attended, lse if kept else qkv.new_empty(0)


@_mix.register_fake
def _mix_fake(  # noqa: PLR0913, PLR0917 - the operator's own signature
    qkv: Tensor,
    position: Tensor,
    taps: Tensor,
    rate: Tensor,
    heads: int,
    window: int,
    dilation: int,
    kept: bool,  # noqa: FBT001 - the operator's own signature
) -> tuple[Tensor, Tensor, Tensor]:
    N, H, W, channels = qkv.shape
    out = qkv.new_empty(N, H, W, channels // 3)
    lse = qkv.new_empty(N, heads, H, W, dtype=torch.float32) if kept else qkv.new_empty(0)
    return out, torch.empty_like(out), lse


@torch.library.custom_op("modswap::mix_map_backward", mutates_args=())
def _mix_backward(  # noqa: PLR0913, PLR0917 - a torch operator takes tensors and numbers only
    grad: Tensor,
    qkv: Tensor,
    position: Tensor,
    taps: Tensor,
    rate: Tensor,
    attended: Tensor,
    lse: Tensor,
    heads: int,
    window: int,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the tensors."""
    given, result = MixTensors(qkv, position, taps, rate), MixResult(grad, attended, lse)
    return backward(grad, given, MixSetting(heads, window, dilation), result)


@_mix_backward.register_fake
def _mix_backward_fake(  # noqa: PLR0913, PLR0917 - the operator's own signature
    grad: Tensor,
    qkv: Tensor,
    position: Tensor,
    taps: Tensor,
    rate: Tensor,
    attended: Tensor,
    lse: Tensor,
    heads: int,
    window: int,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found = (qkv, position, taps, rate)
    return tuple(torch.empty_like(tensor) for tensor in found)  # type: ignore[return-value] # four


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, heads, window, dilation, _ = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.numbers = (heads, window, dilation)


def _gradients(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    found = _mix_backward(grad.contiguous(), *ctx.saved_tensors, *ctx.numbers)
    return (*found, *(None,) * 4)


_mix.register_autograd(_gradients, setup_context=_keep)

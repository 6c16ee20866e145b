"""Routed attention on a map as an operation with gradients: eager, and for `torch.compile`.

Eagerly a plain function runs, for a registered operator costs more of the host's time than a small
program takes. A compiled graph records the operator as one step of known shapes.
"""
# ruff: noqa: ARG001 - of a signature, shapes on fake tensors read a part

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.nn.gpu.routed.passes import (
    Gradients,
    MapResult,
    MapTensors,
    Setting,
    backward,
    forward,
)
from modswap.nn.gpu.routed.tile_sizes import head_tile, in_one_tile
from modswap.nn.kernels.tracing import for_each
from modswap.nn.kernels.windows import cut_off, filled_up, inside, join, split
from modswap.nn.routed_attention.plain import Operands, plain_attention


def map_attention(given: MapTensors, setting: Setting) -> Tensor:
    """Return the attended map with the convolution added, (N, H, W, C)."""
    kept = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
    out: Tensor
    if torch.compiler.is_compiling():
        heads, qk, windows, topk, scale, masked = setting
        out = _attend(*given, heads, qk, list(windows), topk, scale, masked, kept)[0]
    elif kept:
        out = MapAttention.apply(setting, *given)  # type: ignore[no-untyped-call] # torch's own
    else:
        out = forward(given, setting, kept=False).out
    return out


class MapAttention(torch.autograd.Function):
    """The operation as autograd records it eagerly."""

    @staticmethod
    def forward(ctx: Any, setting: Setting, *tensors: Tensor | None) -> Tensor:
        """Return the output, and keep what the gradients need."""
        given = MapTensors(*tensors)  # type: ignore[arg-type] # as `apply` was called
        result = forward(given, setting, kept=True)
        ctx.setting, ctx.single = setting, result.attended is result.out
        kept = result if not ctx.single else result._replace(attended=result.lse)
        ctx.save_for_backward(*given, *kept[1:])
        return result.out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; differentiable if autograd says so."""
        given, result = (
            MapTensors(*ctx.saved_tensors[:6]),
            MapResult(gradients[0], *ctx.saved_tensors[6:]),
        )
        if torch.is_grad_enabled():
            found = _differentiably(gradients[0], given, result.routes, ctx.setting)
        else:
            found = backward(gradients[0], given, ctx.setting, result)
        return None, None, found.qkv, None, None, found.lepe, found.lepe_bias


def plain(given: MapTensors, index: Tensor, setting: Setting) -> Tensor:
    """Return the same by torch's own operators, for windows that are already chosen."""
    heads, qk, (wh, ww, rows, columns), _, scale, masked = setting
    qkv = given.qkv
    N, H, W, _ = qkv.shape
    full = (rows * wh, columns * ww)
    q, kv = split(filled_up(qkv, *full), rows, columns).tensor_split([qk], dim=-1)
    mask = None
    if masked and full != (H, W):
        mask = for_each(inside(H, W, full, rows, columns, qkv).flatten(1), N)
    operands = Operands(q.flatten(2, 3), kv.flatten(2, 3), index.long(), None, mask, heads, scale)
    out = plain_attention(operands).unflatten(2, (wh, ww))
    y = cut_off(join(out, rows, columns), H, W)
    if given.lepe is None:
        return y
    weight, bias = given.lepe.to(qkv.dtype), given.lepe_bias
    bias = None if bias is None else bias.to(qkv.dtype)
    values = qkv[..., 2 * qk :].permute(0, 3, 1, 2)
    near = F.conv2d(values, weight, bias, padding=weight.shape[2] // 2, groups=len(weight))
    return y + near.permute(0, 2, 3, 1)


def _differentiably(grad: Tensor, given: MapTensors, index: Tensor, setting: Setting) -> Gradients:
    """Return the gradients, themselves differentiable."""
    parts = (given.qkv, given.lepe, given.lepe_bias)
    wanted = [part for part in parts if part is not None and part.requires_grad]
    found = torch.autograd.grad(
        plain(given, index, setting), wanted, grad, create_graph=True, materialize_grads=True
    )
    left = iter(found)
    each = [next(left) if p is not None and p.requires_grad else None for p in parts]
    return Gradients(*each)  # type: ignore[arg-type] # None for a map that needs no gradient


def _of_its_own(tensor: Tensor, given: Tensor) -> Tensor:
    """Return a tensor, or an empty one in place of another output: outputs share no memory."""
    return given.new_empty(0) if tensor is given else tensor


@torch.library.custom_op("modswap::map_attention", mutates_args=())
def _attend(  # noqa: PLR0913, PLR0917 - a torch operator takes tensors and numbers only
    x: Tensor,
    qkv: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lepe: Tensor | None,
    lepe_bias: Tensor | None,
    heads: int,
    qk: int,
    windows: list[int],
    topk: int,
    scale: float,
    masked: bool,  # noqa: FBT001 - an operator's argument
    kept: bool,  # noqa: FBT001 - an operator's argument
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the fields of `MapResult`, empty where they are not needed."""
    given = MapTensors(x, qkv, weight, bias, lepe, lepe_bias)
    setting = Setting(heads, qk, _four(windows), topk, scale, masked)
    out, index, taps, attended, lse = forward(given, setting, kept=kept)
    taps = taps if lepe is not None else qkv.new_empty(0)
    return out, index, taps, _of_its_own(attended, out), _of_its_own(lse, out)


def _four(windows: list[int]) -> tuple[int, int, int, int]:
    height, width, rows, columns = windows
    return height, width, rows, columns


@_attend.register_fake
def _attend_fake(  # noqa: PLR0913, PLR0917 - the operator's own signature
    x: Tensor,
    qkv: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lepe: Tensor | None,
    lepe_bias: Tensor | None,
    heads: int,
    qk: int,
    windows: list[int],
    topk: int,
    scale: float,
    masked: bool,  # noqa: FBT001 - the operator's own signature
    kept: bool,  # noqa: FBT001 - the operator's own signature
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    N, H, W, step = qkv.shape
    out, none = qkv.new_empty(N, H, W, step - 2 * qk), qkv.new_empty(0)
    index = qkv.new_empty(N, windows[2] * windows[3], topk, dtype=torch.int32)
    taps = none
    if lepe is not None:
        taps = qkv.new_empty(lepe.shape[2] ** 2 + 1, step - 2 * qk, dtype=torch.float32)
    if not kept:
        return out, index, taps, qkv.new_empty(0), qkv.new_empty(0)
    lse = qkv.new_empty(N, heads, H, W, dtype=torch.float32)
    single = _single(qkv, qk, heads, windows, topk)
    return out, index, taps, qkv.new_empty(0) if single else torch.empty_like(out), lse


def _single(qkv: Tensor, qk: int, heads: int, windows: list[int], topk: int) -> bool:
    """Return whether no output is kept apart, as `MapPlan.single`."""
    head = head_tile(qk, qkv.shape[3] - 2 * qk, heads)
    keys = topk * windows[0] * windows[1]
    return in_one_tile(keys, head, half=qkv.dtype != torch.float32)


@torch.library.custom_op("modswap::map_attention_backward", mutates_args=())
def _attend_backward(  # noqa: PLR0913, PLR0917 - a torch operator takes tensors and numbers only
    grad: Tensor,
    x: Tensor,
    qkv: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lepe: Tensor | None,
    lepe_bias: Tensor | None,
    index: Tensor,
    taps: Tensor,
    attended: Tensor,
    lse: Tensor,
    heads: int,
    qk: int,
    windows: list[int],
    topk: int,
    scale: float,
    masked: bool,  # noqa: FBT001 - an operator's argument
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the fields of `Gradients`, empty where there are none."""
    given = MapTensors(x, qkv, weight, bias, lepe, lepe_bias)
    setting = Setting(heads, qk, _four(windows), topk, scale, masked)
    found = backward(grad, given, setting, MapResult(grad, index, taps, attended, lse))
    return tuple(qkv.new_empty(0) if one is None else one for one in found)  # type: ignore[return-value] # three


@_attend_backward.register_fake
def _attend_backward_fake(  # noqa: PLR0913, PLR0917 - the operator's own signature
    grad: Tensor,
    x: Tensor,
    qkv: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    lepe: Tensor | None,
    lepe_bias: Tensor | None,
    index: Tensor,
    taps: Tensor,
    attended: Tensor,
    lse: Tensor,
    heads: int,
    qk: int,
    windows: list[int],
    topk: int,
    scale: float,
    masked: bool,  # noqa: FBT001 - the operator's own signature
) -> tuple[Tensor, Tensor, Tensor]:
    found = (qkv, lepe, lepe_bias)
    return tuple(qkv.new_empty(0) if t is None else torch.empty_like(t) for t in found)  # type: ignore[return-value] # three


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, heads, qk, windows, topk, scale, masked, _ = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.numbers = (heads, qk, windows, topk, scale, masked)


def _gradients(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    qkv, lepe, lepe_bias = _attend_backward(grad.contiguous(), *saved, *ctx.numbers)
    lepe = None if saved[4] is None else lepe
    lepe_bias = None if saved[5] is None else lepe_bias
    return (None, qkv, None, None, lepe, lepe_bias, *(None,) * 7)


_attend.register_autograd(_gradients, setup_context=_keep)

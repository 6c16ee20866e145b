"""ACmix on a projected map by Triton programs: the forward and the backward pass."""

from typing import NamedTuple

import torch
from torch import Tensor

from modswap.nn.gpu.launches import dot_precision
from modswap.nn.gpu.mixed.plan import MixSizes, plan_of


class MixTensors(NamedTuple):
    """The tensors of a call."""

    qkv: Tensor  # queries, keys and values, contiguous, (N, H, W, 3 C)
    position: Tensor  # of each pixel, (H * W, C / heads)
    taps: Tensor  # of the convolution, (3 heads, side, side, C) float32
    rate: Tensor  # of the attention, (1)


class MixSetting(NamedTuple):
    """The numbers of a call."""

    heads: int
    window: int  # side of the attention's window
    dilation: int


class MixResult(NamedTuple):
    """The output (N, H, W, C), and what the backward pass needs, in its place where not kept."""

    out: Tensor
    attended: Tensor  # the attention alone, (N, H, W, C)
    lse: Tensor  # log-sum-exp of each query's logits, in powers of 2, (N, heads, H, W) float32


def _sizes(given: MixTensors, setting: MixSetting, *, kept: bool) -> MixSizes:
    N, H, W, channels = given.qkv.shape
    heads, window, dilation = setting
    dtype = given.qkv.dtype
    return MixSizes(
        (N, H, W), heads, channels // (3 * heads), window, dilation, given.taps.shape[1], kept,
        dtype, dot_precision(dtype),
    )  # fmt: skip


def forward(given: MixTensors, setting: MixSetting, *, kept: bool) -> MixResult:
    """Return the output, in 2 launches."""
    plan = plan_of(_sizes(given, setting, kept=kept))
    qkv, position, taps, rate = given
    N, H, W, channels = qkv.shape
    with torch.cuda.device_of(qkv):
        attended = qkv.new_empty(N, H, W, channels // 3)
        lse = attended
        if kept:
            lse = qkv.new_empty(N, setting.heads, H, W, dtype=torch.float32)
        plan.attend(qkv, position, attended, lse)
        out = torch.empty_like(attended)
        plan.mix(qkv, taps, attended, rate, out)
    return MixResult(out, attended, lse)


def backward(grad: Tensor, given: MixTensors, setting: MixSetting, result: MixResult) -> MixTensors:
    """Return the gradients, each sum taken in a fixed order."""
    plan = plan_of(_sizes(given, setting, kept=True))
    qkv, position, taps, rate = given
    _, attended, lse = result
    grad = grad.to(qkv.dtype).contiguous()
    with torch.cuda.device_of(qkv):
        grad_qkv, delta = torch.empty_like(qkv), torch.empty_like(lse)
        plan.query_grad(qkv, position, attended, lse, grad, rate, delta, grad_qkv)
        plan.key_grad(qkv, position, lse, grad, rate, delta, grad_qkv)
        grad_position = torch.empty_like(position)
        plan.position(grad_qkv, grad_position)  # before the convolution adds to the keys
        plan.mix_grad(grad, taps, grad_qkv)
        partial = taps.new_empty(plan.tap_parts, *taps.shape)
        plan.tap_grad(qkv, grad, partial)
    grad_rate = delta.sum().reshape(1).to(rate.dtype)
    return MixTensors(grad_qkv, grad_position, partial.sum(0), grad_rate)

"""Routed attention on a projected map by Triton programs: the forward and the backward pass."""

from typing import NamedTuple

import torch
from torch import Tensor

from modswap.nn.gpu.launches import dot_precision
from modswap.nn.gpu.routed.plan import MapPlan, MapSizes, plan_of


class MapTensors(NamedTuple):
    """The tensors of a call."""

    x: Tensor  # the layer's input, (N, H, W, inputs), from which half precision is routed
    qkv: Tensor  # its projection, contiguous, (N, H, W, 2 qk + C)
    weight: Tensor  # of the projection, (2 qk + C, inputs)
    bias: Tensor | None
    lepe: Tensor | None  # weight of the depthwise convolution, (C, 1, side, side)
    lepe_bias: Tensor | None


class Setting(NamedTuple):
    """The numbers of a call."""

    heads: int
    qk: int
    windows: tuple[int, int, int, int]  # height and width, above one another, side by side
    topk: int
    scale: float
    masked: bool  # whether pixels outside of the map take no part


class MapResult(NamedTuple):
    """The output and the tensors that the backward pass needs; the output in place of others."""

    out: Tensor  # (N, H, W, C)
    routes: Tensor  # of the windows that each window is routed to, (N, P, topk) int32
    taps: Tensor  # of the convolution, (side² + 1, C) float32
    attended: Tensor  # the output without the convolution
    lse: Tensor  # log-sum-exp of each query's logits, in powers of 2, (N, heads, H, W) float32


class Gradients(NamedTuple):
    """The gradients of a call; None for a missing convolution or bias."""

    qkv: Tensor
    lepe: Tensor | None
    lepe_bias: Tensor | None


def sizes_of(given: MapTensors, setting: Setting, *, kept: bool) -> MapSizes:
    """Return what the launches of a call depend on; reads torch's setting for float32."""
    N, H, W, step = given.qkv.shape
    heads, qk, windows, topk, scale, masked = setting
    side = 0 if given.lepe is None else given.lepe.shape[2]
    biased = (given.bias is not None, given.lepe_bias is not None)
    dtype = given.qkv.dtype
    return MapSizes(
        (N, H, W), heads, qk, step - 2 * qk, windows, topk, scale, side, biased, masked, kept,
        given.x.shape[3], given.weight.dtype, dtype, dot_precision(dtype),
    )  # fmt: skip


def forward(given: MapTensors, setting: Setting, *, kept: bool) -> MapResult:
    """Return the attended map with the convolution added, in 3 to 5 launches."""
    plan = plan_of(sizes_of(given, setting, kept=kept))
    sizes, qkv = plan.sizes, given.qkv
    with torch.cuda.device_of(qkv):
        index, taps = _route(given, plan)
        out = qkv.new_empty(*sizes.shape, sizes.values)
        lse, attended = out, out
        if kept:
            N, H, W = sizes.shape
            lse = qkv.new_empty(N, sizes.heads, H, W, dtype=torch.float32)
            attended = out if plan.single else torch.empty_like(out)
        if plan.convolve is not None:
            plan.convolve(qkv[..., 2 * sizes.qk :], taps, out)
        plan.attend(qkv, index, out, attended, lse, taps)
    return MapResult(out, index, taps, attended, lse)


def _route(given: MapTensors, plan: MapPlan) -> tuple[Tensor, Tensor]:
    """Return the windows that each window is routed to, and the laid out taps."""
    sizes, qkv = plan.sizes, given.qkv
    N, count = sizes.shape[0], sizes.window_count
    source = given.x if sizes.half else qkv
    channels = sizes.inputs if sizes.half else 2 * sizes.qk
    means = qkv.new_empty(N * count, channels, dtype=torch.float32)
    taps = means  # not read without a convolution
    if sizes.side:
        taps = qkv.new_empty(sizes.side**2 + 1, sizes.values, dtype=torch.float32)
    plan.prepare(source, means, _or(given.lepe, means), _or(given.lepe_bias, means), taps)
    if plan.project is not None:
        projected = qkv.new_empty(N * count, 2 * sizes.qk, dtype=torch.float32)
        plan.project(means, given.weight, _or(given.bias, means), projected)
        means = projected
    index = qkv.new_empty(N, count, sizes.topk, dtype=torch.int32)
    plan.route(means, index)
    return index, taps


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """Return a tensor, or another that a program takes and does not read."""
    return other if tensor is None else tensor


def backward(grad: Tensor, given: MapTensors, setting: Setting, result: MapResult) -> Gradients:
    """Return the gradients of the projected map and of the convolution, in 3 to 6 launches.

    Every sum is taken in a fixed order, so that two runs give the same bits.
    """
    plan = plan_of(sizes_of(given, setting, kept=True))
    sizes, qkv = plan.sizes, given.qkv
    N, count = sizes.shape[0], sizes.window_count
    grad = grad.to(qkv.dtype).contiguous()
    with torch.cuda.device_of(qkv):
        grad_qkv = torch.empty_like(qkv)
        pickers = qkv.new_empty(N, count, count, dtype=torch.int32)
        counts = qkv.new_empty(N, count, dtype=torch.int32)
        plan.pickers(result.routes, pickers, counts)
        lse, delta = result.lse, torch.empty_like(result.lse)
        plan.query_grad(qkv, result.routes, result.attended, lse, grad, delta, grad_qkv)
        if plan.convolve_back is not None:
            plan.convolve_back(grad, result.taps, grad_qkv[..., 2 * sizes.qk :])
        plan.key_grad(qkv, pickers, counts, lse, grad, delta, grad_qkv, result.taps)
        return Gradients(grad_qkv, *_tap_gradients(grad, given, plan))


def _tap_gradients(
    grad: Tensor, given: MapTensors, plan: MapPlan
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of the convolution's weight and bias."""
    sizes, qkv = plan.sizes, given.qkv
    if given.lepe is None:
        return None, None
    rows = (plan.tap_parts, sizes.side**2 + 1)
    partial = qkv.new_empty(*rows, sizes.values, dtype=torch.float32)
    plan.tap_grad(qkv[..., 2 * sizes.qk :], grad, partial)
    weight = torch.empty_like(given.lepe, memory_format=torch.contiguous_format)
    bias = None if given.lepe_bias is None else torch.empty_like(given.lepe_bias)
    plan.tap_sum(partial, weight, _or(bias, partial))
    return weight, bias

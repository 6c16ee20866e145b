"""The fused way of ACmix: when it applies, and its call."""

import torch
from torch.nn.functional import linear

from modswap.nn.gpu.evidence import MeasuredCall
from modswap.nn.gpu.launches import MAX_INT, power
from modswap.nn.gpu.way import wants_fused
from modswap.nn.kernels.acmix import Terms
from modswap.nn.kernels.local_attention import Geometry
from modswap.nn.kernels.maps import ordered_as
from modswap.nn.kernels.tracing import recorded, transformed

HEADS = (1, 2, 4)  # for which the programs lay out the convolution's outputs
SIDE = 3  # of the convolution, for its gradients
MAX_HEAD_CHANNELS = {True: 128, False: 64}  # in half precision, and in float32
MAX_GRID = 65_535  # images and heads: a grid's second and third axis


def suits(terms: Terms, geometry: Geometry) -> bool:
    """Return whether the fused way computes ACmix from these terms."""
    if not wants_fused(terms.x, lambda: measured_call(terms, geometry)):
        return False
    if recorded() or transformed(*terms) or any(t.dtype != terms.x.dtype for t in terms):
        return False
    if any(type(t) not in {torch.Tensor, torch.nn.Parameter} for t in terms):
        return False
    usual = geometry.stride == 1 and geometry.heads in HEADS and geometry.kernel > 1
    return usual and terms.kernel.shape[-1] == SIDE and _fits(terms)


def mix(terms: Terms, geometry: Geometry) -> torch.Tensor:
    """Return ACmix's output, (N, C, H, W)."""
    from modswap.nn.gpu.mixed.operator import mix_map
    from modswap.nn.gpu.mixed.passes import MixSetting, MixTensors

    x, projection, bias, position, kernel, rate = terms
    qkv = linear(x.permute(0, 2, 3, 1), projection, bias).contiguous()  # (N, H, W, 3 C)
    taps = kernel.permute(1, 2, 3, 0).float().contiguous()  # (3 heads, side, side, C)
    setting = MixSetting(geometry.heads, geometry.kernel, geometry.dilation)
    out = mix_map(MixTensors(qkv, position.contiguous(), taps, rate), setting)
    return ordered_as(out.permute(0, 3, 1, 2), x)


def measured_call(terms: Terms, geometry: Geometry) -> MeasuredCall:
    """Return a call as the table of measured times has it."""
    N, inputs, H, W = terms.x.shape
    sizes = (
        f"{inputs} to {len(terms.kernel)}@{H}x{W} heads {geometry.heads} "
        f"window {geometry.kernel} dilation {geometry.dilation}"
    )
    dtype = str(terms.x.dtype).removeprefix("torch.")
    return MeasuredCall("ACmix", sizes, N, dtype, torch.is_grad_enabled())


def _fits(terms: Terms) -> bool:
    """Return whether the programs can compute these sizes: some count in int32."""
    N, _, H, W = terms.x.shape
    size, half = terms.position.shape[1], terms.x.dtype != torch.float32
    numbers = H * W * len(terms.projection)
    return 0 < N <= MAX_GRID and numbers < MAX_INT and power(size) <= MAX_HEAD_CHANNELS[half]

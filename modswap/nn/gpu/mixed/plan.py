"""The launches of ACmix on a map, made once for each shape."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from modswap.nn.gpu.launches import MAX_PLANS, TAP_PROGRAMS, KernelLaunch, ceiling, power
from modswap.nn.gpu.mixed.convolution_programs import (
    mixed_grad_kernel,
    mixed_kernel,
    mixed_tap_grad_kernel,
)
from modswap.nn.gpu.mixed.local_programs import (
    local_kernel,
    local_key_grad_kernel,
    local_query_grad_kernel,
    position_kernel,
)


class MixSizes(NamedTuple):
    """All that the launches of a call depend on."""

    shape: tuple[int, int, int]  # images, height and width of the map
    heads: int
    size: int  # channels of a head
    window: int  # side of the attention's window
    dilation: int
    side: int  # of the convolution
    kept: bool  # whether a backward pass follows
    dtype: torch.dtype
    precision: str  # of dots of float32

    @property
    def wide(self) -> bool:
        """Return whether a tile of a head takes so many registers that others are smaller."""
        exact = self.dtype == torch.float32 and self.precision == "tf32x3"
        return power(self.size) >= (64 if exact else 128)


@dataclass(frozen=True, slots=True)
class MixPlan:
    """The launches of a call, in their order."""

    sizes: MixSizes
    attend: KernelLaunch
    mix: KernelLaunch
    query_grad: KernelLaunch
    key_grad: KernelLaunch
    position: KernelLaunch
    mix_grad: KernelLaunch
    tap_grad: KernelLaunch
    tap_parts: int  # partial sums of the gradients of the taps


@lru_cache(maxsize=MAX_PLANS)
def plan_of(sizes: MixSizes) -> MixPlan:
    """Return the launches for some sizes."""
    block = 32 if sizes.wide else 64
    tap_grad, parts = _tap_grad(sizes)
    return MixPlan(
        sizes,
        _local(sizes, local_kernel, (8, 8, block), {"kept": sizes.kept}),
        _mix(sizes),
        _local(sizes, local_query_grad_kernel, (8, 4 if sizes.wide else 8, block), {}),
        _local(sizes, local_key_grad_kernel, (8, 4 if sizes.wide else 8, block // 2), {}),
        _position(sizes),
        _mix_grad(sizes),
        tap_grad,
        parts,
    )


def _local(
    sizes: MixSizes, kernel: Any, tile: tuple[int, int, int], more: dict[str, Any]
) -> KernelLaunch:
    """Return a program of attention with tiles of rows and columns, and a block around them."""
    N, H, W = sizes.shape
    rows, columns, block = tile
    window = {"side": sizes.window, "reach": sizes.dilation * (sizes.window // 2)}
    tiles = {"rows": rows, "columns": columns, "block": block, "block_d": power(sizes.size)}
    how = {"num_warps": 4, "num_stages": 1 if sizes.wide else 2, "precision": sizes.precision}
    grid = (ceiling(H, rows) * ceiling(W, columns), sizes.heads, N)
    numbers = (H, W, sizes.heads, sizes.dilation, sizes.size**-0.5)
    return KernelLaunch(
        kernel, grid, numbers, {"size": sizes.size, **window, **tiles, **how, **more}
    )


def _rows(sizes: MixSizes) -> tuple[int, dict[str, Any]]:
    """Return the number of programs for an image of the convolution's, and their constants."""
    _, H, W = sizes.shape
    block_x, block_d = min(32, power(W, 8)), min(16, power(sizes.size, 8))
    count = ceiling(sizes.size, block_d) * ceiling(W, block_x) * H
    tiles = {"block_x": block_x, "block_d": block_d, "num_warps": 4}
    return count, {"heads": sizes.heads, "side": sizes.side, **tiles}


def _mix(sizes: MixSizes) -> KernelLaunch:
    N, H, W = sizes.shape
    count, constants = _rows(sizes)
    return KernelLaunch(mixed_kernel, (count, N), (H, W, sizes.size), constants)


def _mix_grad(sizes: MixSizes) -> KernelLaunch:
    N, H, W = sizes.shape
    count, constants = _rows(sizes)
    grid = (count, 3 * sizes.heads, N)
    return KernelLaunch(mixed_grad_kernel, grid, (H, W, sizes.size), constants)


def _position(sizes: MixSizes) -> KernelLaunch:
    N, H, W = sizes.shape
    constants = {"size": sizes.size, "block": 16, "block_d": power(sizes.size), "num_warps": 2}
    return KernelLaunch(position_kernel, (ceiling(H * W, 16),), (N, H * W, sizes.heads), constants)


def _tap_grad(sizes: MixSizes) -> tuple[KernelLaunch, int]:
    """Return the launch for the gradients of the taps, and into how many sums it splits them."""
    N, H, W = sizes.shape
    block_x, block_d = min(16, power(W, 8)), min(16, power(sizes.size, 8))
    rows, blocks = N * H, ceiling(sizes.size, block_d) * 9 * sizes.heads
    per = max(1, ceiling(rows * blocks, TAP_PROGRAMS))
    parts = ceiling(rows, per)
    tiles = {"block_x": block_x, "block_d": block_d, "num_warps": 4}
    numbers = (rows, per, H, W, sizes.size)
    constants = {"heads": sizes.heads, **tiles}
    return KernelLaunch(mixed_tap_grad_kernel, (blocks, parts), numbers, constants), parts

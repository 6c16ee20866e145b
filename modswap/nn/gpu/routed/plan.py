"""The launches of routed attention on a map, made once for each shape."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from modswap.nn.gpu.launches import (
    MAX_PLANS,
    MULTIPROCESSORS,
    TAP_PROGRAMS,
    KernelLaunch,
    ceiling,
    magic,
    power,
)
from modswap.nn.gpu.routed import tile_sizes
from modswap.nn.gpu.routed.attention_programs import attend_kernel, query_grad_kernel
from modswap.nn.gpu.routed.convolution_programs import (
    conv_kernel,
    tap_grad_kernel,
    tap_sum_kernel,
)
from modswap.nn.gpu.routed.key_gradient_programs import key_grad_kernel
from modswap.nn.gpu.routed.routing_programs import (
    pickers_kernel,
    prepare_kernel,
    project_kernel,
    route_kernel,
)


class MapSizes(NamedTuple):
    """All that the launches of a call depend on."""

    shape: tuple[int, int, int]  # images, height and width of the map
    heads: int
    qk: int  # channels of queries, and of keys
    values: int  # channels of values
    windows: tuple[int, int, int, int]  # height and width, above one another, side by side
    topk: int
    scale: float
    side: int  # of the depthwise convolution; 0 for none
    biased: tuple[bool, bool]  # whether the projection and the convolution have a bias
    masked: bool  # whether pixels outside of the map take no part
    kept: bool  # whether a backward pass follows
    inputs: int  # channels of the layer's input
    weight: torch.dtype  # of the projection
    dtype: torch.dtype  # of the map
    precision: str  # of dots of float32

    @property
    def half(self) -> bool:
        """Return whether the map is in half precision."""
        return self.dtype != torch.float32

    @property
    def length(self) -> int:
        """Return the number of a window's pixels."""
        return self.windows[0] * self.windows[1]

    @property
    def window_count(self) -> int:
        """Return the number of an image's windows."""
        return self.windows[2] * self.windows[3]

    @property
    def step(self) -> int:
        """Return the channels of a pixel of the projected map."""
        return 2 * self.qk + self.values

    @property
    def even(self) -> bool:
        """Return whether windows cover the map exactly."""
        wh, ww, rows, columns = self.windows
        return (rows * wh, columns * ww) == self.shape[1:]

    @property
    def geometry(self) -> tuple[int, ...]:
        """Return the numbers that find the pixels of a window."""
        wh, ww, _, columns = self.windows
        numbers = (*self.shape[1:], wh, ww, columns)
        return (*numbers, magic(wh * ww), magic(ww), magic(columns))


@dataclass(frozen=True, slots=True)
class MapPlan:
    """The launches of a call, in their order; None for those that it does not need."""

    sizes: MapSizes
    single: bool  # whether all keys of a window are in one tile
    prepare: KernelLaunch
    project: KernelLaunch | None
    route: KernelLaunch
    convolve: KernelLaunch | None
    attend: KernelLaunch
    pickers: KernelLaunch
    query_grad: KernelLaunch
    convolve_back: KernelLaunch | None
    key_grad: KernelLaunch
    tap_grad: KernelLaunch
    tap_sum: KernelLaunch
    tap_parts: int  # partial sums of the gradients of the taps


@lru_cache(maxsize=MAX_PLANS)
def plan_of(sizes: MapSizes) -> MapPlan:
    """Return the launches for some sizes."""
    apart = bool(sizes.side) and not tile_sizes.fuses_convolution(sizes.length)
    tap_grad, parts = _tap_grad(sizes)
    return MapPlan(
        sizes,
        _single(sizes),
        _prepare(sizes),
        _project(sizes) if sizes.half else None,
        _route(sizes),
        _convolve(sizes, (sizes.step, sizes.values), 1) if apart else None,
        _attend(sizes, apart=apart),
        _pickers(sizes),
        _query_grad(sizes),
        _convolve(sizes, (sizes.values, sizes.step), -1) if apart else None,
        _key_grad(sizes, apart=apart),
        tap_grad,
        _tap_sum(sizes, parts),
        parts,
    )


def _single(sizes: MapSizes) -> bool:
    return tile_sizes.in_one_tile(sizes.topk * sizes.length, _head(sizes), half=sizes.half)


def _head(sizes: MapSizes) -> int:
    """Return the channels of the tile that holds a head."""
    return tile_sizes.head_tile(sizes.qk, sizes.values, sizes.heads)


def _prepare(sizes: MapSizes) -> KernelLaunch:
    N, count, side = sizes.shape[0], sizes.window_count, sizes.side
    channels = sizes.inputs if sizes.half else 2 * sizes.qk
    step = sizes.inputs if sizes.half else sizes.step
    block_c = min(128, power(channels))
    while block_c > 32 and N * count * ceiling(channels, block_c) < 4 * MULTIPROCESSORS:
        block_c //= 2  # few windows: more programs
    block_p = min(power(sizes.length, 4), 4096 // block_c)
    width = max(count * ceiling(channels, block_c), ceiling(sizes.values, block_c) if side else 1)
    constants = {"side": side, "biased": sizes.biased[1], "block_p": block_p, "block_c": block_c}
    numbers = (*sizes.geometry, count, channels, step, sizes.values)
    grid = (width, N + (1 if side else 0))
    return KernelLaunch(prepare_kernel, grid, numbers, {**constants, "num_warps": 4})


def _project(sizes: MapSizes) -> KernelLaunch:
    split = sizes.weight == torch.bfloat16
    rows, outputs = sizes.shape[0] * sizes.window_count, 2 * sizes.qk
    tiles = {"block_m": 64, "block_n": 64, "block_k": 64 if split else 32}
    constants = {"biased": sizes.biased[0], "split": split, **tiles}
    grid = (ceiling(rows, 64), ceiling(outputs, 64))
    how = {"num_warps": 4, "num_stages": 3}
    return KernelLaunch(project_kernel, grid, (rows, sizes.inputs, outputs), {**constants, **how})


def _route(sizes: MapSizes) -> KernelLaunch:
    _, H, W = sizes.shape
    wh, ww, _, columns = sizes.windows
    seen = (ceiling(H, wh), ceiling(W, ww))  # windows that have a pixel
    tiles = {
        "block_r": 16,
        "block_p": power(sizes.window_count),
        "block_c": 64 if sizes.window_count <= 64 else 32,
    }
    numbers = (sizes.scale, sizes.window_count, sizes.qk, sizes.topk, *seen, columns)
    constants = {
        "masked": sizes.masked and not sizes.even,
        **tiles,
        "num_warps": 4,
        "num_stages": 2,
    }
    return KernelLaunch(
        route_kernel, (ceiling(sizes.window_count, 16), sizes.shape[0]), numbers, constants
    )


def _pickers(sizes: MapSizes) -> KernelLaunch:
    constants = {"block": min(256, power(sizes.window_count)), "num_warps": 1}
    grid = (sizes.window_count, sizes.shape[0])
    return KernelLaunch(pickers_kernel, grid, (sizes.window_count, sizes.topk), constants)


def _heads(sizes: MapSizes) -> dict[str, Any]:
    """Return the constants of all programs of attention."""
    kd, vd = sizes.qk // sizes.heads, sizes.values // sizes.heads
    channels = {"kd": kd, "vd": vd, "block_c": power(kd), "block_v": power(vd)}
    return {**channels, "even": sizes.even, "precision": sizes.precision}


def _queries(sizes: MapSizes) -> tuple[tile_sizes.Tiles, dict[str, Any]]:
    """Return the tiles and constants of the two programs that have blocks of queries."""
    keys = sizes.topk * sizes.length
    tiles = tile_sizes.of_queries(
        keys, sizes.length, _head(sizes), half=sizes.half, precision=sizes.precision
    )
    modes = {"single": _single(sizes), "masked": sizes.masked and not sizes.even}
    modes["whole"] = sizes.even and keys % tiles.keys == 0
    return tiles, {**_heads(sizes), **modes, **tiles.constants()}


def _grid(sizes: MapSizes, block: int) -> tuple[int, int]:
    return sizes.window_count * ceiling(sizes.length, block) * sizes.heads, sizes.shape[0]


def _attend(sizes: MapSizes, *, apart: bool) -> KernelLaunch:
    tiles, constants = _queries(sizes)
    modes = {"side": 0 if apart else sizes.side, "added": apart, "kept": sizes.kept}
    numbers = (sizes.scale, *sizes.geometry, sizes.topk, sizes.heads)
    return KernelLaunch(attend_kernel, _grid(sizes, tiles.queries), numbers, {**constants, **modes})


def _query_grad(sizes: MapSizes) -> KernelLaunch:
    tiles, constants = _queries(sizes)
    numbers = (sizes.scale, *sizes.geometry, sizes.topk, sizes.heads)
    return KernelLaunch(query_grad_kernel, _grid(sizes, tiles.queries), numbers, constants)


def _key_grad(sizes: MapSizes, *, apart: bool) -> KernelLaunch:
    tiles = tile_sizes.of_keys(
        sizes.length, _head(sizes), half=sizes.half, precision=sizes.precision
    )
    modes = {"side": 0 if apart else sizes.side, "added": apart}
    constants = {**_heads(sizes), **tiles.constants(), **modes}
    numbers = (sizes.scale, *sizes.geometry, sizes.heads)
    return KernelLaunch(key_grad_kernel, _grid(sizes, tiles.keys), numbers, constants)


def _convolve(sizes: MapSizes, steps: tuple[int, int], sign: int) -> KernelLaunch:
    """Return the convolution apart: of the values (sign 1), or of the gradient (sign -1)."""
    N, H, W = sizes.shape
    block_x, block_c = min(32, power(W, 8)), min(64, power(sizes.values))
    grid = (ceiling(sizes.values, block_c) * ceiling(W, block_x) * H, N)
    tiles = {"block_x": block_x, "block_c": block_c, "num_warps": 4}
    constants = {"side": sizes.side, "sign": sign, **tiles}
    return KernelLaunch(conv_kernel, grid, (H, W, *steps, sizes.values), constants)


def _tap_grad(sizes: MapSizes) -> tuple[KernelLaunch, int]:
    """Return the launch for the gradients of the taps, and into how many sums it splits them."""
    N, H, W = sizes.shape
    side, rows = max(1, sizes.side), N * H
    block_x, block_c = min(16, power(W, 8)), min(64, power(sizes.values))
    blocks = ceiling(sizes.values, block_c) * side * ceiling(side, 5)
    per = max(1, ceiling(rows * blocks, TAP_PROGRAMS))
    parts = ceiling(rows, per)
    constants = {"side": side, "block_x": block_x, "block_c": block_c, "num_warps": 4}
    numbers = (rows, per, H, W, sizes.step, sizes.values)
    return KernelLaunch(tap_grad_kernel, (blocks, parts), numbers, constants), parts


def _tap_sum(sizes: MapSizes, parts: int) -> KernelLaunch:
    constants = {"side": sizes.side, "biased": sizes.biased[1], "block": 32, "block_c": 64}
    grid = (ceiling(sizes.values, 64), sizes.side**2 + 1)
    return KernelLaunch(tap_sum_kernel, grid, (parts, sizes.values), {**constants, "num_warps": 4})

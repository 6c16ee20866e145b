"""The fused way of a layer of bi-level routing attention: when it applies, and its call."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from modswap.nn.gpu.evidence import MeasuredCall
from modswap.nn.gpu.launches import MAX_INT
from modswap.nn.gpu.routed.tile_sizes import head_tile
from modswap.nn.gpu.way import wants_fused
from modswap.nn.kernels.tracing import recorded, transformed
from modswap.nn.kernels.windows import count_windows, cut_off, filled_up
from modswap.nn.routed_attention.routing import Projection, Router

OWNER = "modswap.nn.bilevel_routing_attention"  # subclasses elsewhere may change any step
MAX_WINDOWS = 256  # of an image, which the program that routes compares at once
MAX_HEAD_CHANNELS = {True: 128, False: 64}  # in half precision, and in float32
MAX_IMAGES = 65_534  # a grid has 65,535 rows, one of which is for the convolution


class Layer(Protocol):
    """The attributes of `BiLevelRoutingAttention` that its fused way reads."""

    variant: str
    num_heads: int
    n_win: int
    qk_dim: int
    dim: int
    scale: float
    topk: int
    soft_routing: bool
    diff_routing: bool
    auto_pad: bool
    mask_padding: bool
    kv_downsample_mode: str
    lepe: nn.Conv2d | None
    router: nn.Module


class Cut(NamedTuple):
    """The windows into which a layer cuts a map.

    Args:
        full: Height and width of the map that is projected, filled up.
        windows: Height and width of a window, windows above one another and side by side.
        masked: Whether pixels of windows outside of the map take no part.
    """

    full: tuple[int, int]
    windows: tuple[int, int, int, int]
    masked: bool


def suits(layer: Any, x: torch.Tensor) -> bool:
    """Return whether the fused way computes a layer for a map (N, H, W, C).

    Layers that others have hooked, wrapped or quantised keep the first way, which calls them.
    """
    if not wants_fused(x, lambda: measured_call(layer, x)):
        return False
    usual = not (layer.soft_routing or layer.diff_routing)
    usual = usual and layer.kv_downsample_mode == "identity" and type(layer).__module__ == OWNER
    watched = recorded() or transformed(x, *layer.parameters())
    return usual and not watched and _untouched(layer) and _fits(layer, x)


def attend(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the attended map before the output projection, (N, H, W, C)."""
    from modswap.nn.gpu.routed.operator import map_attention
    from modswap.nn.gpu.routed.passes import MapTensors, Setting

    _, H, W, _ = x.shape
    full, windows, masked = cut_of(layer, H, W)
    x = filled_up(x, *full).contiguous()  # once: the projection keeps it for its backward pass
    projection = _projection(layer)
    if layer.variant == "original":
        qkv = projection(x)
    else:
        qkv = projection(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    lepe = layer.lepe
    given = MapTensors(
        x.detach(),
        qkv.contiguous(),
        projection.weight.detach().flatten(1).contiguous(),
        None if projection.bias is None else projection.bias.detach(),
        None if lepe is None else lepe.weight.contiguous(),
        None if lepe is None else lepe.bias,
    )
    setting = Setting(layer.num_heads, layer.qk_dim, windows, layer.topk, layer.scale, masked)
    return cut_off(map_attention(given, setting), H, W)


def cut_of(layer: Layer, H: int, W: int) -> Cut:
    """Return how a layer cuts a map of some height and width.

    Only what is filled up before the projection has its bias, so only that is filled up here;
    windows may reach over the map otherwise.
    """
    n = layer.n_win
    if layer.variant == "refactored":
        h, w = H // n, W // n
        return Cut((H, W), (h, w, count_windows(H, h), count_windows(W, w)), layer.mask_padding)
    h, w = count_windows(H, n), count_windows(W, n)
    masked = layer.mask_padding and layer.auto_pad
    return Cut((H, W) if masked else (h * n, w * n), (h, w, n, n), masked)


def measured_call(layer: Layer, x: torch.Tensor) -> MeasuredCall:
    """Return a call as the table of measured times has it."""
    N, H, W, C = x.shape
    side = 0 if layer.lepe is None else layer.lepe.kernel_size[0]
    sizes = (
        f"{layer.variant} {C}@{H}x{W} heads {layer.num_heads} n_win {layer.n_win} "
        f"topk {layer.topk} qk {layer.qk_dim} side {side}"
    )
    training = torch.is_grad_enabled()
    return MeasuredCall(
        "BiLevelRoutingAttention", sizes, N, str(x.dtype).removeprefix("torch."), training
    )


def _projection(layer: Any) -> Any:
    return layer.qkv.qkv if layer.variant == "original" else layer.qkv_linear


def _untouched(layer: Any) -> bool:
    """Return whether all parts are torch's and ours own, without hooks that expect to be called.

    Quantised weights may be tensors of a class of their own in torch's layers.
    """
    if _hooked_everywhere() or not _plain(layer):
        return False
    router = layer.router
    if (router.topk, router.scale) != (layer.topk, layer.scale):
        return False
    usual: list[tuple[Any, type]] = [(router, Router), (router.emb, nn.Identity)]
    if layer.lepe is not None:
        usual.append((layer.lepe, nn.Conv2d))
    if layer.variant == "original":
        usual += [(layer.qkv, Projection), (layer.qkv.qkv, nn.Linear)]
    else:
        usual.append((layer.qkv_linear, nn.Conv2d))
    return all(not _hooked(part) and type(part) is kind for part, kind in usual)


def _plain(layer: nn.Module) -> bool:
    return {type(p) for p in layer.parameters()} <= {torch.Tensor, nn.Parameter}


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks  # noqa: SLF001 - torch has no public way to ask
        or module._forward_pre_hooks  # noqa: SLF001 - as above
        or module._backward_hooks  # noqa: SLF001 - as above
        or module._backward_pre_hooks  # noqa: SLF001 - as above
    )


def _hooked_everywhere() -> bool:
    shared = nn.modules.module
    return bool(
        shared._global_forward_hooks  # noqa: SLF001 - torch has no public way to ask
        or shared._global_forward_pre_hooks  # noqa: SLF001 - as above
        or shared._global_backward_hooks  # noqa: SLF001 - as above
        or shared._global_backward_pre_hooks  # noqa: SLF001 - as above
    )


def _fits(layer: Layer, x: torch.Tensor) -> bool:
    """Return whether the programs can compute these sizes: some count in int32."""
    N, H, W, C = x.shape
    full, (h, w, rows, columns), _ = cut_of(layer, H, W)
    count, length, step = rows * columns, h * w, 2 * layer.qk_dim + C
    head = head_tile(layer.qk_dim, C, layer.num_heads)
    if count > MAX_WINDOWS or N > MAX_IMAGES or not N:
        return False
    largest = max(full[0] * full[1] * step, count * length**2, N * count * max(C, step, count))
    return largest < MAX_INT and head <= MAX_HEAD_CHANNELS[x.dtype != torch.float32]

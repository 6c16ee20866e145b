"""Bi-level routing attention (Zhu et al., 2023, arXiv:2303.08810)."""

from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

KV_DOWNSAMPLE_MODES = ("identity", "ada_avgpool", "ada_maxpool", "avgpool", "maxpool")
PARAM_ATTENTION_MODES = ("qkvo", "qkv")


class Routing(NamedTuple):
    """Which windows each window attends to, the best first.

    Args:
        indices: Window numbers, row by row from the top left, (N, n_win², topk).
        weights: Softmax over the selected windows' affinities, (N, n_win², topk).
    """

    indices: torch.Tensor
    weights: torch.Tensor


class BiLevelRoutingAttention(nn.Module):
    """Let every pixel attend to the pixels of the few windows that matter to its own window.

    The map is cut into n_win x n_win windows. The means of queries and keys over each window tell
    which `topk` windows it is routed to; its pixels then attend to all pixels of those. A depthwise
    convolution of the values is added before the output projection. Zhu, Wang, Ke, Zhang and Lau,
    "BiFormer: Vision Transformer with Bi-Level Routing Attention", CVPR 2023, arXiv:2303.08810.

    Shape:
        Input (N, H, W, dim), output the same; (N, dim, H, W) with `layout="NCHW"`. Same dtype and
        device. Without `auto_pad`, H and W are multiples of `n_win`.

    Args:
        dim: Channels of the map.
        num_heads: Attention heads; divides `dim` and `qk_dim`.
        n_win: Windows along each side, so n_win² in all.
        qk_dim: Channels of queries and keys over all heads; None: `dim`.
        qk_scale: Factor of the logits, for routing and attention; None: qk_dim^-0.5.
        kv_per_win: Keys along each side of a window, in the modes `ada_avgpool` and `ada_maxpool`.
        kv_downsample_ratio: Size and stride of the pooling, in the modes `avgpool` and `maxpool`.
        kv_downsample_kernel: Read by no mode; taken so that published configurations carry over.
        kv_downsample_mode: How the keys and values of a window become fewer: `identity` (not at
            all), `ada_avgpool`, `ada_maxpool`, `avgpool` or `maxpool`.
        topk: Windows that each window attends to, from 1 to n_win².
        param_attention: `qkvo`, or `qkv` for no output projection.
        param_routing: Whether the routing has a projection of its own; needs `diff_routing`.
        diff_routing: Whether gradients flow through the routing; needs `soft_routing`.
        soft_routing: Whether keys and values are multiplied by the routing weights.
        side_dwconv: Side of the depthwise convolution, odd; 0 for none.
        auto_pad: Whether H and W that `n_win` does not divide are filled up with zeros at the right
            and the bottom. Filled-up pixels take part like others; they are cut off in the end.
        layout: `NHWC` or `NCHW`, of input and output.

    Raises:
        ValueError: If an argument is out of its range or does not go with another one; in the
            forward pass, if the input's shape does not fit.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the published signature
        self,
        dim: int,
        num_heads: int = 8,
        n_win: int = 7,
        qk_dim: int | None = None,
        qk_scale: float | None = None,
        kv_per_win: int | None = 4,
        kv_downsample_ratio: int | None = 4,
        kv_downsample_kernel: int | None = None,
        kv_downsample_mode: str = "identity",
        topk: int = 4,
        param_attention: str = "qkvo",
        param_routing: bool = False,  # noqa: FBT001, FBT002 - as published
        diff_routing: bool = False,  # noqa: FBT001, FBT002
        soft_routing: bool = False,  # noqa: FBT001, FBT002
        side_dwconv: int = 3,
        auto_pad: bool = False,  # noqa: FBT001, FBT002
        *,
        layout: Literal["NHWC", "NCHW"] = "NHWC",
    ) -> None:
        super().__init__()
        qk_dim = dim if qk_dim is None else qk_dim
        _check_sizes(dim=dim, num_heads=num_heads, n_win=n_win, qk_dim=qk_dim)
        _check_routing(
            topk, n_win, param_routing=param_routing, diff=diff_routing, soft=soft_routing
        )
        _check_choice("param_attention", param_attention, PARAM_ATTENTION_MODES)
        _check_choice("layout", layout, ("NHWC", "NCHW"))
        _check_numbers(side_dwconv, qk_scale)
        self.dim = dim
        self.num_heads = num_heads
        self.n_win = n_win
        self.qk_dim = qk_dim
        self.scale = qk_dim**-0.5 if qk_scale is None else qk_scale
        self.kv_per_win = kv_per_win
        self.kv_downsample_ratio = kv_downsample_ratio
        self.kv_downsample_kernel = kv_downsample_kernel
        self.kv_downsample_mode = kv_downsample_mode
        self.topk = topk
        self.param_attention = param_attention
        self.param_routing = param_routing
        self.diff_routing = diff_routing
        self.soft_routing = soft_routing
        self.auto_pad = auto_pad
        self.layout = layout
        # made in the published order, so that one seed gives the same weights
        self.lepe = _depthwise(dim, side_dwconv) if side_dwconv else None
        self.router = _Router(qk_dim, self.scale, topk, projected=param_routing, diff=diff_routing)
        self.qkv = _Projection(dim, qk_dim)
        self.wo = nn.Linear(dim, dim) if param_attention == "qkvo" else nn.Identity()
        self.kv_down = _pooling(kv_downsample_mode, kv_per_win, kv_downsample_ratio)

    def forward(
        self, x: torch.Tensor, *, return_routing: bool = False, ret_attn_mask: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, Routing] | tuple[torch.Tensor, ...]:
        """Return the attended map, of the shape of `x`.

        Args:
            x: The map, (N, H, W, C) or (N, C, H, W) as `layout` says.
            return_routing: Whether to give (map, Routing).
            ret_attn_mask: Whether to give (map, routing weights, routing indices, attention), the
                last (N n_win², heads, pixels of a window, keys), as the published class does.

        Raises:
            ValueError: If the shape of `x` does not fit.
        """
        self._check_input(x)
        # (N, H, W, C): a view, for cutting into windows copies anyway
        tokens = x if self.layout == "NHWC" else x.permute(0, 2, 3, 1)
        height, width = tokens.shape[1:3]
        y, routing, attention = self._attend(self._fill_up(tokens))  # (N, H', W', C)
        y = self._cut_off(y, height, width, x)  # as x
        if ret_attn_mask:
            return y, routing.weights, routing.indices, attention
        return (y, routing) if return_routing else y

    def _attend(self, x: torch.Tensor) -> tuple[torch.Tensor, Routing, torch.Tensor]:
        """Return the attended map, the routing and the attention of a filled-up NHWC map."""
        N, H, W, C = x.shape
        n, m = self.n_win, self.num_heads
        h, w = H // n, W // n
        windows = self._split(x)  # (N, P, h, w, C) with P = n_win²
        q, kv = self.qkv(windows)  # (N, P, h, w, qk), (N, P, h, w, qk + C)
        k_mean = kv[..., : self.qk_dim].mean((2, 3))  # (N, P, qk)
        routing: Routing = self.router(q.mean((2, 3)), k_mean)  # (N, P, topk)
        kept = self._pool(kv)  # (N, P, keys of a window, qk + C)
        chosen = self._gather(kept, routing)  # (N, P, topk, keys of a window, qk + C)
        k, v = chosen.flatten(2, 3).flatten(0, 1).split([self.qk_dim, self.dim], dim=-1)
        q = q.flatten(2, 3).flatten(0, 1)  # (N P, h w, qk)
        q, k, v = (t.unflatten(-1, (m, -1)).transpose(1, 2) for t in (q, k, v))  # (N P, m, …, c)
        logits = (q * self.scale) @ k.transpose(-2, -1)  # (N P, m, h w, topk keys)
        attention = logits.softmax(-1)
        out = (attention @ v).transpose(1, 2)  # (N P, h w, m, c)
        out = self._join(out.reshape(N, n * n, h, w, C))  # (N, H, W, C)
        if self.lepe is not None:
            maps = self._join(kv[..., self.qk_dim :]).permute(0, 3, 1, 2)  # (N, C, H, W)
            out = out + self.lepe(maps.contiguous()).permute(0, 2, 3, 1)  # (N, H, W, C)
        return self.wo(out), routing, attention

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """Return the windows of a map: (N, H, W, C) -> (N, P, h, w, C)."""
        N, H, W, C = x.shape
        n = self.n_win
        x = x.reshape(N, n, H // n, n, W // n, C).transpose(2, 3)  # (N, n, n, h, w, C)
        return x.reshape(N, n * n, H // n, W // n, C)

    def _join(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the map of windows: (N, P, h, w, C) -> (N, H, W, C)."""
        N, _, h, w, C = windows.shape
        n = self.n_win
        x = windows.reshape(N, n, n, h, w, C).transpose(2, 3)  # (N, n, h, n, w, C)
        return x.reshape(N, n * h, n * w, C)

    def _pool(self, kv: torch.Tensor) -> torch.Tensor:
        """Return fewer keys and values: (N, P, h, w, c) -> (N, P, keys of a window, c)."""
        N, P, h, w, c = kv.shape
        if self.kv_downsample_mode == "identity":
            return kv.reshape(N, P, h * w, c)
        self._check_window(h, w)
        maps = kv.reshape(N * P, h, w, c).permute(0, 3, 1, 2)  # (N P, c, h, w)
        pooled: torch.Tensor = self.kv_down(maps).flatten(2)  # (N P, c, keys)
        return pooled.transpose(1, 2).reshape(N, P, pooled.shape[2], c)

    def _gather(self, kv: torch.Tensor, routing: Routing) -> torch.Tensor:
        """Return what each window is routed to: (N, P, keys, c) -> (N, P, topk, keys, c)."""
        N, P, L, c = kv.shape
        first = torch.arange(N, device=kv.device).view(N, 1, 1) * P
        rows = (routing.indices + first).flatten()  # (N P topk,), among all windows of the batch
        chosen = kv.flatten(0, 1).index_select(0, rows).reshape(N, P, self.topk, L, c)
        if self.soft_routing:
            return chosen * routing.weights[..., None, None]
        return chosen

    def _fill_up(self, x: torch.Tensor) -> torch.Tensor:
        """Return an NHWC map with zeros up to multiples of `n_win`, if `auto_pad` says so."""
        right, bottom = -x.shape[2] % self.n_win, -x.shape[1] % self.n_win
        if not right and not bottom:
            return x
        return F.pad(x, (0, 0, 0, right, 0, bottom))

    def _cut_off(
        self, y: torch.Tensor, height: int, width: int, like: torch.Tensor
    ) -> torch.Tensor:
        """Return an NHWC map without what was filled up, lying in memory as the input does."""
        y = y[:, :height, :width]
        if self.layout == "NHWC":
            return y.contiguous()
        y = y.permute(0, 3, 1, 2)  # (N, C, H, W)
        last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
        return y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    def _check_input(self, x: torch.Tensor) -> None:
        shape = tuple(x.shape)
        if len(shape) != 4:
            raise ValueError(f"expected a map of 4 axes, {self._axes()}, got {shape}")
        axis, other, name = (3, 1, "NCHW") if self.layout == "NHWC" else (1, 3, "NHWC")
        if shape[axis] != self.dim:
            hint = (
                f"; axis {other} is: is layout={name!r} meant?" if shape[other] == self.dim else ""
            )
            raise ValueError(
                f"expected {self._axes()}, got {shape}: axis {axis} has {shape[axis]} channels, "
                f"dim is {self.dim}{hint}"
            )
        if self.auto_pad:
            return
        height, width = shape[1:3] if self.layout == "NHWC" else shape[2:]
        for side, size in (("height", height), ("width", width)):
            if size % self.n_win:
                how = "is below" if size < self.n_win else "is not a multiple of"
                raise ValueError(f"{side} {size} {how} n_win {self.n_win}, and auto_pad is false")

    def _check_window(self, h: int, w: int) -> None:
        ratio = self.kv_downsample_ratio or 1
        if self.kv_downsample_mode in {"avgpool", "maxpool"} and min(h, w) < ratio:
            raise ValueError(
                f"kv_downsample_ratio {ratio} is larger than the windows, which are {h}x{w} pixels"
            )

    def _axes(self) -> str:
        return f"(N, H, W, {self.dim})" if self.layout == "NHWC" else f"(N, {self.dim}, H, W)"

    def extra_repr(self) -> str:
        """Return what the submodules do not show."""
        return (
            f"{self.dim}, num_heads={self.num_heads}, n_win={self.n_win}, topk={self.topk}, "
            f"auto_pad={self.auto_pad}, layout={self.layout!r}"
        )


class _Router(nn.Module):
    """Routing of windows to windows: (N, P, qk), (N, P, qk) -> `Routing` of (N, P, topk)."""

    def __init__(
        self, qk_dim: int, scale: float, topk: int, *, projected: bool, diff: bool
    ) -> None:
        super().__init__()
        self.scale = scale
        self.topk = topk
        self.diff_routing = diff
        self.emb = nn.Linear(qk_dim, qk_dim) if projected else nn.Identity()

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> Routing:
        """Return the `topk` windows whose keys go best with each window's query."""
        if not self.diff_routing:
            query, key = query.detach(), key.detach()
        query, key = self.emb(query), self.emb(key)  # (N, P, qk)
        affinity = (query * self.scale) @ key.transpose(-2, -1)  # (N, P, P)
        best, indices = affinity.topk(self.topk, dim=-1)  # (N, P, topk)
        return Routing(indices, best.softmax(-1))


class _Projection(nn.Module):
    """Query, and key with value, from one linear map: (…, C) -> (…, qk), (…, qk + C)."""

    def __init__(self, dim: int, qk_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.qk_dim = qk_dim
        self.qkv = nn.Linear(dim, 2 * qk_dim + dim)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the query, and key and value side by side."""
        q, kv = self.qkv(x).split([self.qk_dim, self.qk_dim + self.dim], dim=-1)
        return q, kv


def _depthwise(dim: int, side: int) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, side, padding=side // 2, groups=dim)


def _pooling(mode: str, kv_per_win: int | None, ratio: int | None) -> nn.Module:
    _check_choice("kv_downsample_mode", mode, KV_DOWNSAMPLE_MODES)
    if mode == "identity":
        return nn.Identity()
    adaptive = mode.startswith("ada_")
    name, size = ("kv_per_win", kv_per_win) if adaptive else ("kv_downsample_ratio", ratio)
    if size is None or size < 1:
        raise ValueError(f"{name} must be at least 1 in kv_downsample_mode {mode!r}, got {size}")
    match mode:
        case "ada_avgpool":
            return nn.AdaptiveAvgPool2d(size)
        case "ada_maxpool":
            return nn.AdaptiveMaxPool2d(size)
        case "avgpool":
            return nn.AvgPool2d(size)
    return nn.MaxPool2d(size)


def _check_sizes(*, dim: int, num_heads: int, n_win: int, qk_dim: int) -> None:
    sizes = {"dim": dim, "num_heads": num_heads, "n_win": n_win, "qk_dim": qk_dim}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    for name in ("dim", "qk_dim"):
        if sizes[name] % num_heads:
            raise ValueError(f"{name} {sizes[name]} is not divisible by num_heads {num_heads}")


def _check_routing(topk: int, n_win: int, *, param_routing: bool, diff: bool, soft: bool) -> None:
    if not 1 <= topk <= n_win**2:
        raise ValueError(f"topk must be from 1 to n_win² = {n_win**2} (n_win {n_win}), got {topk}")
    if diff and not soft:
        raise ValueError(
            "diff_routing=True needs soft_routing=True, got soft_routing=False: "
            "without the weights no gradient flows through the routing"
        )
    if param_routing and not diff:
        raise ValueError("param_routing=True needs diff_routing=True, got diff_routing=False")


def _check_numbers(side_dwconv: int, qk_scale: float | None) -> None:
    if side_dwconv < 0 or (side_dwconv and side_dwconv % 2 == 0):
        raise ValueError(f"side_dwconv must be odd, or 0 for none, got {side_dwconv}")
    if qk_scale == 0:
        raise ValueError("qk_scale must not be 0; None stands for qk_dim^-0.5")


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")

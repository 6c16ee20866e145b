"""Bi-level routing attention (Zhu et al., 2023, arXiv:2303.08810)."""

from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.nn.checks import check_choice
from modswap.nn.gpu.routed import layer as fused
from modswap.nn.kernels.half_precision import slow_autocast
from modswap.nn.kernels.maps import ordered_as
from modswap.nn.kernels.tracing import for_each, own_tensors, recorded
from modswap.nn.kernels.windows import (
    count_windows,
    cut_off,
    filled_up,
    inside,
    join,
    join_onto,
    split,
)
from modswap.nn.routed_attention import Operands, plain_shares, routed_attention
from modswap.nn.routed_attention.adaptive import adaptive_pool
from modswap.nn.routed_attention.arguments import (
    check_numbers,
    check_refactored,
    check_routing,
    check_sizes,
    check_window,
    depthwise,
    pooling,
)
from modswap.nn.routed_attention.routing import (
    Projection,
    Router,
    Routing,
    full_precision,
    window_means,
)
from modswap.nn.routed_attention.values import with_value_map

PARAM_ATTENTION_MODES = ("qkvo", "qkv")


class _Attended(NamedTuple):
    """A map (N, H, W, C), the routing of its windows, and the operands if kept."""

    y: torch.Tensor
    routing: Routing
    operands: Operands | None


class BiLevelRoutingAttention(nn.Module):
    """Attend every pixel to the pixels of the few windows that matter to its own window.

    The map is cut into n_win x n_win windows. The means of queries and keys over each window
    select the `topk` windows that it is routed to; its pixels then attend to all pixels of those.
    A depthwise convolution of the values is added before the output projection. Zhu, Wang, Ke,
    Zhang and Lau, "BiFormer: Vision Transformer with Bi-Level Routing Attention", CVPR 2023,
    arXiv:2303.08810.

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
        kv_downsample_kernel: Unused; accepted so that published configurations work.
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
        variant: `original`, or `refactored`: the authors' later class. Its windows have H / n_win
            rows, rounded down, and as many of them as the map needs; maps are filled up after the
            projection, with any `auto_pad`; filled-up pixels have no part in the routing. It has
            neither other projections nor pooling nor soft routing, and has other state-dict names.
        mask_padding: Whether pixels that were filled up are left out of means, routing, attention
            and convolution.

    Raises:
        ValueError: If an argument is out of its range or does not go with another one; in the
            forward pass, if the input's shape does not fit.

    Examples:
        >>> layer = BiLevelRoutingAttention(16, num_heads=2)
        >>> layer(torch.zeros(1, 14, 14, 16)).shape
        torch.Size([1, 14, 14, 16])
    """

    def __init__(  # noqa: PLR0913, PLR0915, PLR0917 - the published signature
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
        diff_routing: bool = False,  # noqa: FBT001, FBT002 - as published
        soft_routing: bool = False,  # noqa: FBT001, FBT002 - as published
        side_dwconv: int = 3,
        auto_pad: bool = False,  # noqa: FBT001, FBT002 - as published
        *,
        layout: Literal["NHWC", "NCHW"] = "NHWC",
        variant: Literal["original", "refactored"] = "original",
        mask_padding: bool = False,
    ) -> None:
        super().__init__()
        qk_dim = dim if qk_dim is None else qk_dim
        check_sizes(dim=dim, num_heads=num_heads, n_win=n_win, qk_dim=qk_dim)
        check_routing(
            topk, n_win, param_routing=param_routing, diff=diff_routing, soft=soft_routing
        )
        check_choice("param_attention", param_attention, PARAM_ATTENTION_MODES)
        check_choice("layout", layout, ("NHWC", "NCHW"))
        check_choice("variant", variant, ("original", "refactored"))
        check_numbers(side_dwconv, qk_scale)
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
        self.variant = variant
        self.mask_padding = mask_padding
        # made in the published order, so that one seed gives the same weights
        self.lepe = depthwise(dim, side_dwconv) if side_dwconv else None
        self.router = Router(qk_dim, self.scale, topk, projected=param_routing, diff=diff_routing)
        if variant == "original":
            self.qkv = Projection(dim, qk_dim)
            self.wo = nn.Linear(dim, dim) if param_attention == "qkvo" else nn.Identity()
        else:
            check_refactored(self, dim)
            self.qkv_linear = nn.Conv2d(dim, 3 * dim, 1)
            self.output_linear = nn.Conv2d(dim, dim, 1)
        self.kv_down = pooling(kv_downsample_mode, kv_per_win, kv_downsample_ratio)

    def forward(
        self, x: torch.Tensor, *, return_routing: bool = False, ret_attn_mask: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, Routing] | tuple[torch.Tensor, ...]:
        """Return the attended map, of the shape of `x`.

        Args:
            x: The map, (N, H, W, C) or (N, C, H, W) as `layout` says.
            return_routing: Whether to return (map, Routing).
            ret_attn_mask: Whether to return (map, routing weights, routing indices, attention), the
                last (N n_win², heads, pixels of a window, keys), as the published class does.

        Raises:
            ValueError: If the shape of `x` does not fit.
        """
        self._check_input(x)
        low = slow_autocast(x)
        if low is None or next(self.parameters()).dtype is not torch.float32:
            return self._forward(x, return_routing=return_routing, ret_attn_mask=ret_attn_mask)
        with full_precision(x):
            given = self._forward(
                x.float(), return_routing=return_routing, ret_attn_mask=ret_attn_mask
            )
        if isinstance(given, torch.Tensor):
            return given.to(low)
        return (given[0].to(low), *given[1:])

    def _forward(
        self, x: torch.Tensor, *, return_routing: bool, ret_attn_mask: bool
    ) -> torch.Tensor | tuple[torch.Tensor, Routing] | tuple[torch.Tensor, ...]:
        """Return the result of `forward`, computed in the types of the input."""
        # (N, H, W, C): a view, for cutting into windows copies anyway
        maps = x if self.layout == "NHWC" else x.permute(0, 2, 3, 1)
        windows = self._original if self.variant == "original" else self._refactored
        # the tensors behind the projection's input are freed before it runs
        if not (return_routing or ret_attn_mask):
            y = fused.attend(self, maps) if fused.suits(self, maps) else windows(maps, keep=False).y
            return self._laid_out(self._projected(y), x)
        y, routing, operands = windows(maps, keep=ret_attn_mask)
        y = self._projected(y)
        y = self._laid_out(y, x)
        if operands is None:
            return y, routing
        shares = plain_shares(operands)
        if self.variant == "original":
            return y, routing.weights, routing.indices, shares
        return y, shares.unflatten(0, (x.shape[0], -1)).transpose(1, 2)

    def _projected(self, y: torch.Tensor) -> torch.Tensor:
        """Return the output projection of a map (N, H, W, C)."""
        if self.variant == "original":
            projected: torch.Tensor = self.wo(y)
        else:
            projected = self.output_linear(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return projected

    def _original(self, x: torch.Tensor, *, keep: bool) -> _Attended:
        """Attend to a map (N, H, W, C), filled up before it is projected."""
        _, height, width, _ = x.shape
        n = self.n_win
        full = (count_windows(height, n) * n, count_windows(width, n) * n)
        x = filled_up(x, *full) if self.auto_pad else x  # (N, H', W', C)
        windows = split(x, n, n)  # (N, P, h, w, C) with P = n_win²
        q, kv = own_tensors(*self.qkv(windows))  # (N, P, h, w, qk), (N, P, h, w, qk + C)
        masked = self.mask_padding and self.auto_pad and (recorded() or full != (height, width))
        valid = inside(height, width, full, n, n, x) if masked else None
        q_mean, k_mean = self._means(windows, q, kv, valid, self.qkv.qkv)  # (N, P, qk)
        del windows
        routing: Routing = self.router(q_mean, k_mean, valid)  # (N, P, topk)
        values = None  # (N, H', W', C)
        if self.lepe is not None:
            kv, values = with_value_map(kv, self.qk_dim, n, n)
        operands = self._operands(q, kv, routing, valid)
        out = routed_attention(operands)
        out = out.unflatten(2, q.shape[2:4])  # (N, P, h, w, C)
        if values is None:
            y = cut_off(join(out, n, n), height, width)
        elif masked:
            y = cut_off(join(out, n, n), height, width)
            y = y + self._local(cut_off(values, height, width))
        else:
            y = cut_off(join_onto(self._local(values), out, n, n), height, width)
        return _Attended(y, routing, operands if keep else None)

    def _refactored(self, x: torch.Tensor, *, keep: bool) -> _Attended:
        """Attend to a map (N, H, W, C) whose windows have H / n_win rows, rounded down.

        It is filled up after it is projected; filled-up pixels have no part in the routing.
        """
        _, height, width, C = x.shape
        h, w = height // self.n_win, width // self.n_win
        rows, columns = count_windows(height, h), count_windows(width, w)
        full = (rows * h, columns * w)
        qkv = self.qkv_linear(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (N, H, W, 3 C)
        windows = split(filled_up(qkv, *full), rows, columns)  # (N, P, h, w, 3 C)
        q, kv = windows.tensor_split([C], dim=-1)
        q, kv = own_tensors(q, kv)
        filled = recorded() or full != (height, width)
        valid = inside(height, width, full, rows, columns, x) if filled else None
        pixels = split(filled_up(x, *full), rows, columns)
        q_mean, k_mean = self._means(pixels, q, kv, valid, self.qkv_linear)  # (N, P, C)
        routing: Routing = self.router(q_mean, k_mean, None)  # (N, P, topk)
        operands = self._operands(q, kv, routing, valid if self.mask_padding else None)
        out = routed_attention(operands)
        y = cut_off(join(out.unflatten(2, (h, w)), rows, columns), height, width)  # (N, H, W, C)
        if self.lepe is not None:
            y = y + self._local(qkv[..., 2 * C :])
        return _Attended(y, routing, operands if keep else None)

    def _means(
        self,
        windows: torch.Tensor,
        q: torch.Tensor,
        kv: torch.Tensor,
        valid: torch.Tensor | None,
        projection: nn.Linear | nn.Conv2d,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the means of queries and keys over each window: (N, P, qk) twice.

        In half precision they are projected from the pixels' means, in float32, so that the chosen
        windows are those of the full-precision module.
        """
        if not self.diff_routing:
            windows, q, kv = windows.detach(), q.detach(), kv.detach()
        k = kv[..., : self.qk_dim]
        if q.dtype not in {torch.float16, torch.bfloat16}:
            return window_means(q, valid), window_means(k, valid)
        if type(projection) not in {nn.Linear, nn.Conv2d}:  # a wrapper, as LoRA's
            return window_means(q, valid).float(), window_means(k, valid).float()
        weight, bias = projection.weight[: 2 * self.qk_dim], projection.bias
        offset = None if bias is None else bias[: 2 * self.qk_dim].float()
        with full_precision(q):
            means = F.linear(
                window_means(windows, valid).float(), weight.flatten(1).float(), offset
            )
        q_mean, k_mean = means.chunk(2, dim=-1)
        return q_mean, k_mean

    def _operands(
        self,
        q: torch.Tensor,
        kv: torch.Tensor,
        routing: Routing,
        valid: torch.Tensor | None,
    ) -> Operands:
        """Return the operands of routed attention, keys and values pooled."""
        kept, mask = self._pool(kv, valid)
        weights = routing.weights.to(kv.dtype) if self.soft_routing else None
        queries = q.flatten(2, 3)
        heads, scale = self.num_heads, self.scale
        return Operands(queries, kept, routing.indices, weights, mask, heads, scale)

    def _pool(
        self, kv: torch.Tensor, valid: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return fewer keys and values, (N, P, h, w, c) -> (N, P, K, c), and which take part."""
        N, P, h, w, _ = kv.shape
        if self.kv_downsample_mode == "identity":
            mask = None if valid is None else for_each(valid.flatten(1), N)
            return kv.flatten(2, 3), mask
        check_window(self.kv_downsample_mode, self.kv_downsample_ratio, h, w)
        maps = kv.flatten(0, 1).permute(0, 3, 1, 2)  # (N P, c, h, w)
        if valid is None:
            pooled = self._fewer(maps)
            mask = None
        else:
            real = valid.expand(N, P, h, w).reshape(N * P, 1, h, w)
            share = self._fewer(real.to(kv.dtype))  # (N P, 1, …), 0 where nothing takes part
            largest = self.kv_downsample_mode.endswith("maxpool")
            pooled = self._fewer(maps.masked_fill(~real, float("-inf") if largest else 0))
            if not largest:
                pooled = pooled / share.masked_fill(share == 0, 1)  # gradients stay finite
            pooled = pooled.masked_fill(share == 0, 0)
            mask = (share > 0).reshape(N, P, -1)
        return pooled.flatten(2).transpose(1, 2).unflatten(0, (N, P)), mask

    def _fewer(self, maps: torch.Tensor) -> torch.Tensor:
        """Return pooled maps, (N, c, h, w) -> (N, c, h', w')."""
        # torch's own adaptive pooling adds gradients in any order on a GPU
        own = recorded() or maps.requires_grad
        if own and self.kv_per_win and self.kv_downsample_mode.startswith("ada_"):
            largest = self.kv_downsample_mode == "ada_maxpool"
            return adaptive_pool(maps, self.kv_per_win, largest=largest)
        pooled: torch.Tensor = self.kv_down(maps)
        return pooled

    def _local(self, x: torch.Tensor) -> torch.Tensor:
        """Return the depthwise convolution of values: (N, H, W, C) -> the same."""
        assert self.lepe is not None  # noqa: S101 - the callers ask
        # convolutions are fast with the channels last
        y: torch.Tensor = self.lepe(x.permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1)

    def _laid_out(self, y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return an NHWC map in the module's layout and the input's memory format."""
        if self.layout == "NHWC":
            return y.contiguous()
        return ordered_as(y.permute(0, 3, 1, 2), like)  # (N, C, H, W)

    def _check_input(self, x: torch.Tensor) -> None:
        """Refuse an input whose rank, channels or sides do not fit."""
        shape = tuple(x.shape)
        if len(shape) != 4:
            raise ValueError(f"expected a map of 4 axes, {self._axes()}, got {shape}")
        axis, other, name = (3, 1, "NCHW") if self.layout == "NHWC" else (1, 3, "NHWC")
        if shape[axis] != self.dim:
            meant = f"; axis {other} is: is layout={name!r} meant?"
            raise ValueError(
                f"expected {self._axes()}, got {shape}: axis {axis} has {shape[axis]} channels, "
                f"dim is {self.dim}{meant if shape[other] == self.dim else ''}"
            )
        height, width = shape[1:3] if self.layout == "NHWC" else shape[2:]
        self._check_side("height", height)
        self._check_side("width", width)

    def _check_side(self, name: str, size: int) -> None:
        if self.variant == "refactored":
            if size < self.n_win:
                raise ValueError(f"{name} {size} is below n_win {self.n_win}")
        elif not self.auto_pad and size % self.n_win:
            how = "is below" if size < self.n_win else "is not a multiple of"
            raise ValueError(f"{name} {size} {how} n_win {self.n_win}, and auto_pad is false")

    def _axes(self) -> str:
        return f"(N, H, W, {self.dim})" if self.layout == "NHWC" else f"(N, {self.dim}, H, W)"

    def extra_repr(self) -> str:
        """Return the arguments that the submodules do not show."""
        return (
            f"{self.dim}, num_heads={self.num_heads}, n_win={self.n_win}, topk={self.topk}, "
            f"auto_pad={self.auto_pad}, layout={self.layout!r}"
        )

"""ACmix: self-attention and convolution that share their projections."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from modswap.nn.checks import check_divides, check_odd, check_positive
from modswap.nn.gpu.mixed import layer as fused
from modswap.nn.kernels.acmix import Mix, Terms, computable, mix, mix_plain, supported
from modswap.nn.kernels.local_attention import Geometry


class ACmix(nn.Module):
    """Add local self-attention and a convolution, both of the same queries, keys and values.

    Pan et al., "On the Integration of Self-Attention and Convolution", CVPR 2022, arXiv:2111.14556.

    Each pixel attends to the `kernel_att` x `kernel_att` pixels around it, reflected at the border,
    with learned positions. A 1x1 map and a grouped convolution, initially shifts and their sum,
    compute a convolution of the map. `rate1` weighs the first, `rate2` the second.

    Shape:
        Input (N, in_planes, H, W), output (N, out_planes, ceil(H / stride), ceil(W / stride)).
        H and W are larger than dilation * (kernel_att // 2), which reflection needs.

    Args:
        in_planes: Channels of the input.
        out_planes: Channels of the output.
        kernel_att: Side of the window that a pixel attends to, odd.
        head: Number of attention heads; divides `out_planes`.
        kernel_conv: Side of the convolution's kernel, odd.
        stride: Pixels of the input for each of the output, along each side.
        dilation: Pixels from one key of a window to the next.

    Raises:
        ValueError: If `head` does not divide `out_planes`, a kernel's side is even, or a size is
            less than 1.

    Examples:
        >>> ACmix(16, 16)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(  # noqa: PLR0913, PLR0917 - as published
        self,
        in_planes: int,
        out_planes: int,
        kernel_att: int = 7,
        head: int = 4,
        kernel_conv: int = 3,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        check_positive(in_planes=in_planes, out_planes=out_planes, head=head)
        check_positive(stride=stride, dilation=dilation)
        check_odd(kernel_att=kernel_att, kernel_conv=kernel_conv)
        check_divides("head", head, out_planes=out_planes)
        self.in_planes = in_planes
        self.out_planes = out_planes
        self.kernel_att = kernel_att
        self.head = head
        self.kernel_conv = kernel_conv
        self.stride = stride
        self.dilation = dilation
        self.head_dim = out_planes // head
        self.rate1 = nn.Parameter(torch.full((1,), 0.5))
        self.rate2 = nn.Parameter(torch.full((1,), 0.5))
        self.conv1 = nn.Conv2d(in_planes, out_planes, kernel_size=1)
        self.conv2 = nn.Conv2d(in_planes, out_planes, kernel_size=1)
        self.conv3 = nn.Conv2d(in_planes, out_planes, kernel_size=1)
        self.conv_p = nn.Conv2d(2, self.head_dim, kernel_size=1)
        self.fc = nn.Conv2d(3 * head, kernel_conv**2, kernel_size=1, bias=False)
        # drawn with a bias, as published, so that later layers draw the same weights
        self.dep_conv = nn.Conv2d(
            kernel_conv**2 * self.head_dim, out_planes, kernel_conv, groups=self.head_dim
        )
        self.dep_conv.register_parameter("bias", None)
        with torch.no_grad():
            shifts = torch.eye(kernel_conv**2).view(-1, kernel_conv, kernel_conv)
            self.dep_conv.weight.copy_(shifts.expand_as(self.dep_conv.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of attention and convolution.

        Raises:
            ValueError: If `x` is no map of `in_planes` channels, or too small for the reflection.
        """
        self._check_input(x)
        kind = x.device.type
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return self._mix(self._terms(x))
        low = torch.get_autocast_dtype(kind)
        with torch.autocast(kind, enabled=False):
            return self._mix(Terms(*(term.to(low) for term in self._terms(x))))

    def _check_input(self, x: torch.Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_planes:
            shape = tuple(x.shape)
            raise ValueError(f"x has shape {shape}, expected (N, {self.in_planes}, H, W)")
        reach = self.dilation * (self.kernel_att // 2)
        if min(x.shape[2:]) <= reach:
            size = f"{x.shape[2]}x{x.shape[3]}"
            window = f"kernel_att {self.kernel_att} with dilation {self.dilation}"
            raise ValueError(
                f"the map is {size}, but {window} reflects {reach} pixels: sides need {reach + 1}"
            )

    def _terms(self, x: torch.Tensor) -> Terms:
        """Return the terms of the output, with the convolution's two steps folded into one."""
        projections = (self.conv1, self.conv2, self.conv3)
        weights = torch.cat([conv.weight.flatten(1) for conv in projections])  # (3 * C, in_planes)
        biases = torch.cat([conv.bias for conv in projections if conv.bias is not None])
        # every channel of a position in a head passes through the same fc
        folded = torch.einsum("oikl,im->omkl", self.dep_conv.weight, self.fc.weight[:, :, 0, 0])
        kernel = (folded * self.rate2[:, None, None, None]).contiguous(
            memory_format=torch.channels_last
        )
        return Terms(x, weights, biases, self._positions(x), kernel, self.rate1)

    def _positions(self, x: torch.Tensor) -> torch.Tensor:
        """Return the learned position of every pixel, (H * W, head_dim)."""
        H, W = x.shape[2:]
        weight = self.conv_p.weight.flatten(1)
        wide = torch.promote_types(weight.dtype, torch.float32)
        # the values of `linspace`, which an export would fix to one size
        down, across = (
            2 * torch.arange(side, dtype=wide, device=weight.device) / max(side - 1, 1) - 1
            for side in (H, W)
        )
        grid = torch.stack([across.expand(H, W), down[:, None].expand(H, W)], dim=-1)
        grid = grid.view(H * W, 2).to(weight.dtype)
        bias = self.conv_p.bias
        # the same for all keys of a query, so its gradient is exactly zero, not None or rounding
        return linear(grid, weight, None if bias is None else bias * 0)

    def _mix(self, terms: Terms) -> torch.Tensor:
        """Return the output, in tiles where their kernel is available, else in plain operations."""
        geometry = Geometry(self.head, self.kernel_att, self.stride, self.dilation)
        dtype = torch.promote_types(terms.x.dtype, self.rate1.dtype)
        out = (
            fused.mix(terms, geometry) if fused.suits(terms, geometry) else _mixed(terms, geometry)
        )
        out = out.to(dtype)
        if self.dep_conv.bias is not None:
            out = out + (self.rate2 * self.dep_conv.bias)[:, None, None]
        return out

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if state_dict.get(f"{prefix}dep_conv.bias", 0) is None:  # as the published class has it
            del state_dict[f"{prefix}dep_conv.bias"]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _mixed(terms: Terms, geometry: Geometry) -> torch.Tensor:
    """Return the output in tiles where their kernel is available, else in plain operations."""
    out: torch.Tensor
    if geometry.kernel == 1 or not supported(terms):
        out = mix_plain(terms, geometry)
    elif torch.is_grad_enabled() and any(term.requires_grad for term in terms):
        out = Mix.apply(geometry, *computable(terms))  # type: ignore[no-untyped-call] # torch's stubs leave `apply` untyped
    else:
        out = mix(computable(terms), geometry)
    return out

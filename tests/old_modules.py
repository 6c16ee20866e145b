"""Modules as other libraries spell them, whose weights new ones inherit."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name


class Fused(nn.Module):
    """Attention with one layer for queries, keys and values: (N, L, C) -> the same.

    With `by_head` the three of a head follow each other, else the three follow each other.
    """

    def __init__(
        self, dim: int = 16, heads: int = 2, by_head: bool = False, causal: bool = False
    ) -> None:
        super().__init__()
        self.num_heads, self.by_head, self.causal = heads, by_head, causal
        self.to_three = nn.Linear(dim, 3 * dim)
        self.back = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = self.to_three(x)
        if self.by_head:
            t = t.unflatten(-1, (self.num_heads, 3, -1)).permute(3, 0, 2, 1, 4)
        else:
            t = t.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = t.unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: torch.Tensor = self.back(y.transpose(1, 2).flatten(2))
        return out


class Split(nn.Module):
    """Attention with layers whose names say nothing, and a scale of its own."""

    def __init__(self, dim: int = 16, heads: int = 2, scale: float = 0.3) -> None:
        super().__init__()
        self.h, self.scale = heads, scale
        self.a = nn.Linear(dim, dim, bias=False)
        self.b = nn.Linear(dim, dim)
        self.c = nn.Linear(dim, dim, bias=False)
        self.d = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.h, -1)).transpose(1, 2)
            for layer in (self.d, self.c, self.a)
        )
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        out: torch.Tensor = self.b(y.transpose(1, 2).flatten(2))
        return out


class OnMaps(nn.Module):
    """Attention of pixels with 1x1 convolutions: (N, C, H, W) -> the same."""

    def __init__(self, dim: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = self.qkv(x).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
        q, k, v = t.unbind(1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).flatten(1, 2)
        out: torch.Tensor = self.proj(y.unflatten(2, x.shape[2:]))
        return out


class Normed(Fused):
    """Attention whose values are normalised before the output."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__(dim)
        self.inner_norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = self.to_three(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*t.unbind(0)).transpose(1, 2).flatten(2)
        out: torch.Tensor = self.back(self.inner_norm(y))
        return out


class Located(nn.Module):
    """Attention with batch norms, narrow keys and a convolution of the values, as of YOLO11."""

    def __init__(self, dim: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.head_dim = heads, dim // heads // 2, dim // heads
        self.qkv = nn.Sequential(nn.Conv2d(dim, 2 * dim, 1, bias=False), nn.BatchNorm2d(2 * dim))
        near = nn.Conv2d(dim, dim, 5, padding=2, groups=dim, bias=False)
        self.near = nn.Sequential(near, nn.BatchNorm2d(dim))
        self.proj = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = [self.key_dim, self.key_dim, self.head_dim]
        each = self.qkv(x).flatten(2).unflatten(1, (self.num_heads, -1)).transpose(-1, -2)
        q, k, v = each.split(sizes, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(x.shape)
        out: torch.Tensor = self.proj(y + self.near(v.transpose(-1, -2).reshape(x.shape)))
        return out


class Paired(nn.Module):
    """Attention with one layer for queries and one for keys and values: (N, L, C) -> the same."""

    def __init__(self, dim: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = (
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, dim),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        out: torch.Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return out


class TorchAttention(nn.Module):
    """A block that calls torch's own attention."""

    def __init__(self, dim: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.attn(x, x, x, need_weights=False)
        out: torch.Tensor = y
        return out


class ConvSE(nn.Module):
    """Squeeze and excitation of 1x1 convolutions, named otherwise."""

    def __init__(self, channels: int = 16, hidden: int = 4, bias: bool = False) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w: torch.Tensor = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu())
        return x * w.sigmoid()


class OtherCBAM(nn.Module):
    """CBAM as repositories spell it: convolutions, means before maxima, no batch norm."""

    def __init__(self, channels: int = 16, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // ratio, 1)
        self.fc2 = nn.Conv2d(channels // ratio, channels, 1)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means, maxima = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = x * sum(self.fc2(self.fc1(one).relu()) for one in (means, maxima)).sigmoid()
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        weight: torch.Tensor = self.spatial(both)
        return x * weight.sigmoid()


class OtherECA(nn.Module):
    """ECA with its convolution under another name."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        self.mix = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w: torch.Tensor = self.mix(x.mean((2, 3))[:, None])[:, 0].sigmoid()
        return x * w[:, :, None, None]


class OtherCoordinates(nn.Module):
    """Coordinate attention whose layers are defined in another order."""

    def __init__(self, channels: int = 16, hidden: int = 8) -> None:
        super().__init__()
        self.to_columns = nn.Conv2d(hidden, channels, 1)
        self.to_rows = nn.Conv2d(hidden, channels, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        hidden = F.hardswish(self.norm(self.squeeze(torch.cat([rows, columns], 2))))
        high, wide = hidden.split([x.shape[2], x.shape[3]], 2)
        down = self.to_rows(high).sigmoid()
        across = self.to_columns(wide.transpose(2, 3)).sigmoid()
        out: torch.Tensor = x * down * across
        return out


def randomised(model: nn.Module, seed: int = 0) -> Any:
    """Return a model for evaluation with random weights and statistics, none of them at rest."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            drawn = torch.rand(value.shape, generator=generator)
            scale = 1.5 / max(1, value[0].numel()) ** 0.5 if value.ndim > 1 else 1
            value.copy_((drawn * 2 - 1) * scale + (2 if name.endswith("var") else 0))
    return model.eval()

"""Tiny models for the tests; each has one property of real models."""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn


def gate(channels: int) -> nn.Sequential:
    """Return the convolutional gate: (N, C, H, W) -> (N, C, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class GatedNet(nn.Module):
    """Two gates on one map, as in the main case: (N, 3, H, W) -> (N, 2, H, W)."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1, stride=2)
        self.channel_attention = gate(channels)
        self.space_attention = gate(channels)
        self.head = nn.Conv2d(channels, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.channel_attention(x * x.amax((2, 3), keepdim=True).sigmoid())
        x = x + self.space_attention(x * x.amax(1, keepdim=True).sigmoid())
        out: torch.Tensor = self.head(x)
        return out


def build_gated(channels: int = 16) -> GatedNet:
    """Build a `GatedNet`; a factory for `--model`."""
    return GatedNet(channels)


def build_nothing() -> int:
    """Return an integer in place of a model."""
    return 3


def build_failing() -> nn.Module:
    """Raise, as a factory with a mistake does."""
    raise KeyError("depth")


class TokenBlock(nn.Module):
    """Attention over tokens with a residual: (N, L, E) -> (N, L, E)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.attn(self.norm(x))
        return out


class TokenNet(nn.Module):
    """A ViT without a class token: (N, 3, H, W) -> (N, classes)."""

    def __init__(self, dim: int = 16, patch: int = 4, class_token: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, dim)) if class_token else None
        self.blocks = nn.ModuleList(TokenBlock(dim) for _ in range(2))
        self.head = nn.Linear(dim, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)  # (N, L, E)
        if self.token is not None:
            tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        out: torch.Tensor = self.head(tokens.mean(1))
        return out


class SharedNet(nn.Module):
    """One gate object under two paths, each called: (N, 8, H, W) -> (N, 8, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = gate(8)
        self.second = self.first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(x))
        return out


class ManyCalls(nn.Module):
    """A model that calls a module with other sizes, keywords and None; returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = Mix()
        self.unused = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        high = self.mix(x)
        low = self.mix(x[:, :, ::2, ::2], mask=None)
        return {"high": high, "levels": (low, None)}


class Mix(nn.Module):
    """A convolution with an optional mask: (N, 4, H, W) -> (N, 4, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return out if mask is None else out * mask


class Strided(nn.Module):
    """A stage that halves the map and doubles the channels, then a head."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.down(x))
        return out


class PairAttention(nn.Module):
    """Return (output, None), as many attention modules do."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, None]:
        return self.proj(x), None


class PairNet(nn.Module):
    """A block that unpacks the pair of its attention: (N, L, E) -> (N, L, E)."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = PairAttention(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.attn(self.norm(x), mask=None)
        out: torch.Tensor = x + y
        return out


class Tied(nn.Module):
    """An embedding whose weight is the head's: (N, L) -> (N, L, words)."""

    def __init__(self, words: int = 11, dim: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, dim)
        self.mixer = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, words, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.mixer(self.embed(tokens)))
        return out


class Keep(nn.Module):
    """Return the input times a factor, in any layout."""

    def __init__(self, dim: int = 0, gain: float = 1.0) -> None:
        super().__init__()
        self.dim = dim
        self.gain = gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gain


class Moody(nn.Module):
    """A 1x1 convolution that halves the map while it trains."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return out[:, :, ::2, ::2] if self.training else out


class ChannelsLastMixer(nn.Module):
    """A linear layer over the last axis: (N, H, W, C) -> (N, H, W, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(x)
        return out


class Detector(nn.Sequential):
    """Layers with index attributes, as YOLO's parser adds them."""

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                stem=nn.Conv2d(3, 8, 3, stride=2, padding=1),
                block=gate(8),
                head=nn.Conv2d(8, 5, 1),
            )
        )
        for index, layer in enumerate(self):
            vars(layer).update(i=index, f=-1, type=type(layer).__name__)


class Unpicklable(nn.Module):
    """A module with a lambda, which pickle refuses: (N, C, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.function = lambda: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class Counting(nn.Module):
    """A module whose extra state is a dictionary without tensors: any shape -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale

    def get_extra_state(self) -> dict[str, int]:
        """Return the state that is not a tensor."""
        return {"seen": 0}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Accept the state of `get_extra_state`."""


class KeywordGate(nn.Module):
    """A gate that is called by keyword: (N, C, H, W), g of the same shape -> (N, C, H, W)."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: torch.Tensor, *, g: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return x * torch.tanh(self.weight * g) * scale


class OneBatch(nn.Module):
    """A module that accepts only a batch of two: (2, C, H, W) -> (2, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


class EvenBatch(nn.Module):
    """A module that accepts only batches of even size: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = x.reshape(x.shape[0] // 2, 2, *x.shape[1:])
        return (pairs * self.weight).reshape(x.shape)


class ByValue(nn.Module):
    """A module that branches on a value, which no graph can hold: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight if float(x.sum()) > 0 else x - self.weight


class ReparamBlock(nn.Module):
    """A convolution of 3x3, one of 1x1 and the input itself, each normed, added up as in RepVGG."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.point = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
        self.skip = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = (self.dense(x) + self.point(x) + self.skip(x)).relu()
        return out

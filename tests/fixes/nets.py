"""Models and new modules that are refused."""

from typing import Any

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Encoder layers of which nobody says where the batch is: (L, N, C) -> (L, N, C)."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 16)
        self.layers = nn.ModuleList([layer])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Cross(nn.Module):
    """Attention to other tokens: two times (N, L, C) -> (N, L, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(16, 16)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        out: Tensor = x + self.proj(context).mean(1, keepdim=True)
        return out


class Decoder(nn.Module):
    """Cross-attention: (N, L, C) -> (N, L, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.cross = Cross()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cross(self.norm(x), x[:, :4] * 2)
        return out


class Signal(nn.Module):
    """A row of samples: (N, 4, L) -> (N, 4, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(4, 8, 3, padding=1)
        self.gate = nn.Conv1d(8, 8, 3, padding=1)
        self.head = nn.Conv1d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.gate(self.stem(x)))
        return out


class Sentence(nn.Module):
    """Words: (N, L) -> (N, L, 9)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 16)
        self.mix = nn.Linear(16, 16)
        self.head = nn.Linear(16, 9)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.head(self.mix(self.words(ids)))
        return out


class ChannelsLast(nn.Module):
    """A map whose channels come last: (N, 3, H, W) -> (N, H, W, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mix(self.stem(x).permute(0, 2, 3, 1))
        return out


class Square(nn.Module):
    """A map of as many channels as rows, and no layer that says where these are."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mix(x)
        return out


class Towers(nn.Module):
    """Two maps, and a gate between: (N, 3, H, W) -> (N, 8, H, W) and (N, 4, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.stem(x)
        y = self.norm(y * self.gate(y).sigmoid().mean(1, keepdim=True))
        return self.first(y), self.second(y).softmax(1)


class Volume(nn.Module):
    """Voxels: (N, 3, D, H, W) -> (N, 4, D, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.mid = nn.Conv3d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mid(x)
        return out


class Attention(nn.Module):
    """Attention with a mask that counts: (N, L, C) and (L, L) -> (N, L, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v, mask)


class Masked(nn.Module):
    """A causal network: (N, L, C) -> (N, L, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attn = Attention()

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        out: Tensor = self.attn(self.norm(x), mask=mask)
        return out


class Needs(nn.Module):
    """A module that needs an argument that no site has."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, depth)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Raises(nn.Module):
    """A module whose forward raises."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError(f"not for {tuple(x.shape)}")


class RaisesWhenMade(nn.Module):
    """A module that cannot be made."""

    def __init__(self) -> None:
        super().__init__()
        raise ValueError("not today")


class TakesTwo(nn.Module):
    """A module of two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Seven(nn.Module):
    """Seven scores: (N, 16) -> (N, 7)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(dim, 7)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


class Keeps(nn.Conv2d):
    """A convolution that keeps its last output."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        self.last = super().forward(input)
        return self.last


class Lambda(nn.Module):
    """A module with a lambda."""

    def __init__(self) -> None:
        super().__init__()
        self.act: Any = lambda x: x * 2

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x)
        return out


class Ignores(nn.Module):
    """A module that ignores what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Draws(nn.Module):
    """A module that draws in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand_like(x)


class Detaches(nn.Conv2d):
    """A convolution that no gradient passes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).detach()


class Mixes(nn.Module):
    """A module that mixes samples."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


class Doubles(nn.Module):
    """A module that gives another type."""

    def forward(self, x: Tensor) -> Tensor:
        return x.double()


class Nan(nn.Module):
    """A module that gives no numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 0

"""A ViT-like model of tokens, small; run this file to write its weights."""

import torch
from safetensors.torch import save_file
from torch import nn


class Attention(nn.Module):
    """Multi-head self-attention: (N, L, E) -> (N, L, E)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return attended tokens."""
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (N, L, 3, heads, head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, L, head_dim)
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        mixed: torch.Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """Attention and a two-layer network, each with a residual: (N, L, E) -> (N, L, E)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens of the next block."""
        x = x + self.attn(self.norm1(x))
        out: torch.Tensor = x + self.mlp(self.norm2(x))
        return out


class VisionTransformer(nn.Module):
    """Patches, blocks, mean over tokens, classes: (N, 3, H, W) -> (N, classes)."""

    def __init__(
        self, dim: int = 96, depth: int = 4, num_heads: int = 3, classes: int = 10
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 8, stride=8)
        self.blocks = nn.Sequential(*(Block(dim, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)  # (N, L, E)
        out: torch.Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return out


def build_vit(**options: int) -> VisionTransformer:
    """Build the model; the recipe's `model.factory`."""
    return VisionTransformer(**options)


if __name__ == "__main__":
    torch.manual_seed(0)
    save_file(build_vit().state_dict(), "vit_like.safetensors")

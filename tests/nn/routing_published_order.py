"""Bi-level routing attention in the published order of operations, to time and to compare with.

The keys and values are gathered elementwise through an expanded index, as the published class does.
"""

from typing import Any

import torch

from modswap.nn import BiLevelRoutingAttention
from modswap.nn.kernels.windows import join, split


class PublishedOrder(BiLevelRoutingAttention):
    """The layer without padding, pooling and routing options, (N, H, W, C) -> the same."""

    def forward(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return the attended map."""
        N, n, heads = x.shape[0], self.n_win, self.num_heads
        windows = split(x, n, n)  # (N, P, h, w, C)
        h, w = windows.shape[2:4]
        q, kv = self.qkv(windows)
        routing = self.router(q.mean((2, 3)), kv[..., : self.qk_dim].mean((2, 3)), None)
        kv_flat = kv.flatten(2, 3)  # (N, P, h w, qk + C)
        P, K, c = kv_flat.shape[1:]
        index = routing.indices[..., None, None].expand(-1, -1, -1, K, c)
        chosen = kv_flat[:, None].expand(N, P, P, K, c).gather(2, index)  # (N, P, topk, K, c)
        k, v = chosen.flatten(2, 3).flatten(0, 1).split([self.qk_dim, self.dim], -1)
        q = q.flatten(2, 3).flatten(0, 1).unflatten(-1, (heads, -1)).transpose(1, 2)
        k = k.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1)  # (N P, heads, c, topk K)
        v = v.unflatten(-1, (heads, -1)).transpose(1, 2)
        out = ((q * self.scale) @ k).softmax(-1) @ v  # (N P, heads, h w, C)
        out = join(out.transpose(1, 2).reshape(N, P, h, w, self.dim), n, n)
        if self.lepe is not None:
            maps = join(kv[..., self.qk_dim :], n, n).permute(0, 3, 1, 2).contiguous()
            out = out + self.lepe(maps).permute(0, 2, 3, 1)
        y: torch.Tensor = self.wo(out)
        return y

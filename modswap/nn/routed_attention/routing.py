"""The routing of windows to windows, and the projections that it is computed from."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name


class Routing(NamedTuple):
    """The windows that each window attends to, the best first.

    Args:
        indices: Window numbers, row by row from the top left, (N, n_win², topk).
        weights: Softmax over the selected windows' affinities, (N, n_win², topk).
    """

    indices: torch.Tensor
    weights: torch.Tensor


class Router(nn.Module):
    """Routing of windows to windows: (N, P, qk), (N, P, qk) -> `Routing` of (N, P, topk)."""

    def __init__(
        self, qk_dim: int, scale: float, topk: int, *, projected: bool, diff: bool
    ) -> None:
        super().__init__()
        self.scale = scale
        self.topk = topk
        self.diff_routing = diff
        self.emb = nn.Linear(qk_dim, qk_dim) if projected else nn.Identity()

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, valid: torch.Tensor | None
    ) -> Routing:
        """Return each query's `topk` best windows; those without a valid pixel, (P, h, w), last."""
        if not self.diff_routing:
            query, key = query.detach(), key.detach()
        with full_precision(query):
            query, key = self._embedded(query), self._embedded(key)  # (N, P, qk)
            affinity = (query * self.scale) @ key.transpose(-2, -1)  # (N, P, P)
        if valid is not None:
            affinity = affinity.masked_fill(~valid.flatten(1).any(1), float("-inf"))
        best, indices = affinity.topk(self.topk, dim=-1)  # (N, P, topk)
        return Routing(indices, best.softmax(-1))

    def _embedded(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.emb, nn.Linear) and self.emb.weight.dtype != x.dtype:
            return F.linear(x, self.emb.weight.to(x.dtype), self.emb.bias.to(x.dtype))
        embedded: torch.Tensor = self.emb(x)
        return embedded


class Projection(nn.Module):
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


def full_precision(x: torch.Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast, so that the inputs' precision is kept."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


def window_means(windows: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """Return means over windows, of valid pixels: (N, P, h, w, c), (P, h, w) -> (N, P, c)."""
    half = windows.dtype in {torch.float16, torch.bfloat16}
    exact = torch.float32 if half else windows.dtype
    if valid is None:
        return windows.mean((2, 3), dtype=exact)
    count = valid.sum((1, 2)).clamp(min=1)[:, None]  # (P, 1)
    return (windows * valid[..., None]).sum((2, 3), dtype=exact) / count

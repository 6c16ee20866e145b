"""Routed attention as in the paper: the reference, and the steps of an exported graph."""

from typing import NamedTuple

import torch


class Operands(NamedTuple):
    """The operands of routed attention, for P windows of L queries and K keys.

    Head i has the i-th part of the c channels of queries and keys, and of the C channels of values.
    """

    q: torch.Tensor  # (N, P, L, c)
    kv: torch.Tensor  # keys and values of each window, side by side, (N, P, K, c + C)
    indices: torch.Tensor  # of the windows that each window is routed to, (N, P, T)
    weights: torch.Tensor | None  # factors of the routed keys and values, (N, P, T); None: all 1
    key_mask: torch.Tensor | None  # True for keys that take part, (N, P, K); None for all
    heads: int
    scale: float  # of the logits


def plain_attention(operands: Operands) -> torch.Tensor:
    """Return the attention of windows to routed windows, (N, P, L, C); zeros without a key."""
    q, kv, indices, weights, _, heads, _ = operands
    v = _picked(kv[..., q.shape[3] :], indices, weights)  # (N P, T K, C)
    out = plain_shares(operands) @ by_head(v, heads)  # (N P, heads, L, C / heads)
    return out.transpose(1, 2).reshape(*q.shape[:3], -1)


def plain_shares(operands: Operands) -> torch.Tensor:
    """Return the weight of each routed key, ordered as `indices`: (N P, heads, L, T K)."""
    q, kv, indices, weights, key_mask, heads, scale = operands
    k = _picked(kv[..., : q.shape[3]], indices, weights)  # (N P, T K, c)
    queries = by_head(q.flatten(0, 1), heads)  # (N P, heads, L, c / heads)
    logits = (queries * scale) @ by_head(k, heads).transpose(-1, -2)  # (N P, heads, L, T K)
    if key_mask is None:
        return logits.softmax(-1)
    mask = _picked(key_mask[..., None], indices).transpose(1, 2)[:, None]  # (N P, 1, 1, T K)
    # not nan where no key takes part
    return logits.masked_fill(~mask, float("-inf")).softmax(-1).masked_fill(~mask, 0)


def _picked(
    x: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the windows that each window is routed to: (N, P, K, C) -> (N P, T K, C)."""
    rows = among_all(indices).flatten()  # (N P T,)
    picked = x.flatten(0, 1).index_select(0, rows)  # (N P T, K, C)
    if weights is not None:
        picked = picked * weights.reshape(-1, 1, 1)
    N, P, K, C = x.shape
    return picked.reshape(N * P, indices.shape[2] * K, C)


def among_all(indices: torch.Tensor) -> torch.Tensor:
    """Return window numbers counted over the whole batch: (N, P, T) -> the same."""
    N, P, _ = indices.shape
    return indices + torch.arange(N, device=indices.device).view(N, 1, 1) * P


def by_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Return a view with the heads apart: (B, L, C) -> (B, heads, L, C / heads)."""
    B, L, C = x.shape
    return x.view(B, L, heads, C // heads).transpose(1, 2)

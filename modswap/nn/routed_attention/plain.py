"""Routed attention as the paper writes it: the reference, and what an exported graph holds."""

import torch


def plain_attention(  # noqa: PLR0913 - the operands of one operation
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
    *,
    heads: int,
    scale: float,
) -> torch.Tensor:
    """Return what the queries of each window gather from the windows that it is routed to.

    Shape:
        `q` (N, P, L, c), `kv` (N, P, K, c + C), `indices` and `weights` (N, P, T), `key_mask`
        (N, P, K) -> (N, P, L, C), for P windows of L queries and K keys. Head i has the i-th part
        of the c channels of queries and keys, and of the C channels of values. A query without any
        key gets zeros.

    Args:
        q: Queries of each window.
        kv: Keys and values of each window, side by side.
        indices: The windows that each window is routed to.
        weights: Factors of the routed keys and values; None for ones.
        key_mask: Which keys take part; None for all.
        heads: Attention heads.
        scale: Factor of the logits.
    """
    v = _picked(kv[..., q.shape[3] :], indices, weights)  # (N P, T K, C)
    shares = plain_shares(q, kv, indices, weights, key_mask, heads=heads, scale=scale)
    out = shares @ by_head(v, heads)  # (N P, heads, L, C / heads)
    return out.transpose(1, 2).reshape(*q.shape[:3], -1)


def plain_shares(  # noqa: PLR0913 - the operands of one operation
    q: torch.Tensor,
    kv: torch.Tensor,
    indices: torch.Tensor,
    weights: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
    *,
    heads: int,
    scale: float,
) -> torch.Tensor:
    """Return the share that each routed key has in each query's output.

    Shape:
        As `plain_attention` -> (N P, heads, L, T K), the keys in the order of `indices`.

    Args:
        q: Queries of each window.
        kv: Keys and values of each window, side by side.
        indices: The windows that each window is routed to.
        weights: Factors of the routed keys and values; None for ones.
        key_mask: Which keys take part; None for all.
        heads: Attention heads.
        scale: Factor of the logits.
    """
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
    """Return what each window is routed to: (N, P, K, C) -> (N P, T K, C)."""
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

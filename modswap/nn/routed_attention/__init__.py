"""Attention of each window to the few windows that it is routed to."""

import torch

from modswap.nn.kernels.tracing import recorded, transformed
from modswap.nn.routed_attention.picking import picking_attention
from modswap.nn.routed_attention.plain import plain_attention, plain_shares
from modswap.nn.routed_attention.whole import attend_whole, pays_off

__all__ = ["plain_attention", "plain_shares", "routed_attention"]


def routed_attention(  # noqa: PLR0913 - the operands of one operation
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

    The same as `plain_attention` by the way that suits device and sizes: all windows at once where
    all, or nearly all, are routed to; else window by window without keeping what was picked. While
    a graph is exported, and under torch's function transforms, the plain way, which is made of
    torch's own operators alone.

    Shape:
        As `plain_attention`.

    Args:
        q: Queries of each window.
        kv: Keys and values of each window, side by side.
        indices: The windows that each window is routed to.
        weights: Factors of the routed keys and values; None for ones.
        key_mask: Which keys take part; None for all.
        heads: Attention heads.
        scale: Factor of the logits.
    """
    if recorded() or transformed(q, kv):
        return plain_attention(q, kv, indices, weights, key_mask, heads=heads, scale=scale)
    if weights is None and pays_off(q, kv, indices):
        return attend_whole(q, kv, indices, key_mask, heads=heads, scale=scale)
    return picking_attention(q, kv, indices, weights, key_mask, heads=heads, scale=scale)

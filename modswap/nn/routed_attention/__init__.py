"""Attention of each window to the few windows that it is routed to."""

import torch

from modswap.nn.kernels.tracing import recorded, transformed
from modswap.nn.routed_attention.picking import picking_attention
from modswap.nn.routed_attention.plain import Operands, plain_attention, plain_shares
from modswap.nn.routed_attention.whole import attend_whole, pays_off

__all__ = ["Operands", "plain_attention", "plain_shares", "routed_attention"]


def routed_attention(operands: Operands) -> torch.Tensor:
    """Return the attention of each window to the windows that it is routed to, (N, P, L, C).

    The result of `plain_attention`, computed in the fastest way for device and sizes: all windows
    at once where all, or nearly all, are routed to; else window by window without keeping the
    picked rows. Exported graphs and torch's function transforms use the plain way, which consists
    of torch's own operators.
    """
    q, kv, indices, weights, *_ = operands
    if recorded() or transformed(q, kv):
        return plain_attention(operands)
    if weights is None and pays_off(q, kv, indices):
        return attend_whole(operands)
    return picking_attention(operands)

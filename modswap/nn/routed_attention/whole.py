"""Routed attention over all windows at once, where that costs less than picking."""

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.nn.routed_attention.plain import Operands, by_head

MAX_WINDOW_PIXELS = 4  # pixels of a window, up to which picking is mostly overhead
MAX_KEY_PIXELS = 256  # of all windows together, beyond which the mask costs more than the picking
MAX_WINDOWS_PER_ROUTE = 4  # windows for each window that is routed to


def pays_off(q: torch.Tensor, kv: torch.Tensor, indices: torch.Tensor) -> bool:
    """Return whether attention to all windows, masked to the routed ones, is faster."""
    windows, topk = q.shape[1], indices.shape[2]
    if topk == windows:
        return True
    few = q.shape[2] <= MAX_WINDOW_PIXELS and windows * kv.shape[2] <= MAX_KEY_PIXELS
    return few and windows <= MAX_WINDOWS_PER_ROUTE * topk and not q.is_cuda


def attend_whole(operands: Operands) -> torch.Tensor:
    """Return the result of `plain_attention` for operands without routing weights."""
    q, kv, indices, _, key_mask, heads, scale = operands
    N, P, L, c = q.shape
    K = kv.shape[2]
    k, v = kv[..., :c].flatten(1, 2), kv[..., c:].flatten(1, 2)  # (N, P K, c), (N, P K, C)
    allowed = None if key_mask is None else key_mask.reshape(N, 1, 1, P * K)
    if indices.shape[2] < P:
        routed = torch.zeros(N, P, P, dtype=torch.bool, device=q.device).scatter(2, indices, True)  # noqa: FBT003 - the value
        routed = routed[:, :, None, :, None].expand(N, P, L, P, K)
        routed = routed.reshape(N, 1, P * L, P * K)
        allowed = routed if allowed is None else routed & allowed
    out = F.scaled_dot_product_attention(
        by_head(q.flatten(1, 2), heads), by_head(k, heads), by_head(v, heads), allowed, scale=scale
    )  # (N, heads, P L, C / heads)
    if key_mask is not None and allowed is not None:
        out = out.masked_fill(~allowed.any(-1, keepdim=True), 0)  # some backends give nan there
    return out.transpose(1, 2).reshape(N, P, L, -1)

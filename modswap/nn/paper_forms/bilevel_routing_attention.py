"""Bi-level routing attention step by step, as the paper has it: routed windows are copied out."""

import torch

from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.nn.kernels.windows import count_windows, cut_off, filled_up, join, split


def has_form(layer: BiLevelRoutingAttention) -> bool:
    """Return whether the steps here are those of a module with its options."""
    full = next(layer.parameters()).dtype in {torch.float32, torch.float64}
    return layer.variant == "original" and not layer.mask_padding and full


def bilevel_routing_attention(layer: BiLevelRoutingAttention, x: torch.Tensor) -> torch.Tensor:
    """Return the attended map, of the shape of `x`."""
    maps = x if layer.layout == "NHWC" else x.permute(0, 2, 3, 1)  # (N, H, W, C)
    _, H, W, _ = maps.shape
    S = layer.n_win
    padded = filled_up(maps, count_windows(H, S) * S, count_windows(W, S) * S)
    windows = split(padded, S, S)  # (N, S², h, w, C)
    q, kv = layer.qkv(windows)  # (N, S², h, w, qk), (N, S², h, w, qk + C)
    k, v = kv.tensor_split([layer.qk_dim], dim=-1)
    weights, indices = region_routing(layer, q, k)  # (N, S², topk) twice
    attended = token_attention(layer, q, kv, weights, indices)  # (N, S², h, w, C)
    y = join(attended, S, S)  # (N, H', W', C)
    if layer.lepe is not None:
        values = join(v, S, S).permute(0, 3, 1, 2)  # (N, C, H', W')
        local = layer.lepe(values).permute(0, 2, 3, 1)
        y = y + local
    out: torch.Tensor = layer.wo(cut_off(y, H, W))
    return out if layer.layout == "NHWC" else out.permute(0, 3, 1, 2)


def region_routing(
    layer: BiLevelRoutingAttention, q: torch.Tensor, k: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights and the numbers of the windows that each window attends to."""
    q_r = layer.router.emb(q.mean((2, 3)))  # (N, S², qk)
    k_r = layer.router.emb(k.mean((2, 3)))
    A_r = (q_r * layer.scale) @ k_r.transpose(1, 2)  # (N, S², S²)
    best, I_r = A_r.topk(layer.topk, dim=-1)  # (N, S², topk)
    return best.softmax(-1), I_r


def token_attention(
    layer: BiLevelRoutingAttention,
    q: torch.Tensor,
    kv: torch.Tensor,
    weights: torch.Tensor,
    indices: torch.Tensor,
) -> torch.Tensor:
    """Return the attention of each window's pixels to those of the windows it is routed to."""
    N, P, h, w, _ = q.shape
    kept = pooled(layer, kv)  # (N, P, K, qk + C)
    batch = torch.arange(N, device=q.device)[:, None, None]
    gathered = kept[batch, indices]  # (N, P, topk, K, qk + C)
    if layer.soft_routing:
        gathered = gathered * weights[..., None, None]
    k_g, v_g = gathered.flatten(2, 3).tensor_split([layer.qk_dim], dim=-1)
    queries, keys, values = (by_head(layer, t) for t in (q.flatten(2, 3), k_g, v_g))
    logits = (queries * layer.scale) @ keys.transpose(-1, -2)  # (N, P, heads, h w, topk K)
    shares = logits.softmax(-1)
    out = shares @ values  # (N, P, heads, h w, C / heads)
    return out.transpose(2, 3).reshape(N, P, h, w, -1)


def pooled(layer: BiLevelRoutingAttention, kv: torch.Tensor) -> torch.Tensor:
    """Return fewer keys and values of each window: (N, P, h, w, c) -> (N, P, K, c)."""
    N, P = kv.shape[:2]
    maps = kv.flatten(0, 1).permute(0, 3, 1, 2)  # (N P, c, h, w)
    fewer: torch.Tensor = layer.kv_down(maps)
    kept: torch.Tensor = fewer.flatten(2).transpose(1, 2).unflatten(0, (N, P))
    return kept


def by_head(layer: BiLevelRoutingAttention, x: torch.Tensor) -> torch.Tensor:
    """Return the heads apart: (N, P, L, c) -> (N, P, heads, L, c / heads)."""
    apart: torch.Tensor = x.unflatten(-1, (layer.num_heads, -1)).transpose(2, 3)
    return apart

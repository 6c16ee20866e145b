"""Self-attention step by step: products, softmax and sums in place of torch's fused kernel."""

from typing import Any

import torch

from modswap.nn.kernels.maps import ordered_as
from modswap.nn.kernels.windows import count_windows, cut_off, filled_up, join, split
from modswap.nn.multi_head_self_attention import MultiHeadSelfAttention
from modswap.nn.self_attention import SelfAttention
from modswap.nn.window_attention import FORBIDDEN, WindowAttention


def without_dropout(layer: MultiHeadSelfAttention | WindowAttention) -> bool:
    """Return whether no attention weight is dropped, as the steps here have it."""
    return not (layer.training and layer.attn_drop)


def multi_head_self_attention(layer: MultiHeadSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """Return the attended tokens, (N, L, C)."""
    heads = layer.num_heads
    qkv = layer.qkv(x).unflatten(-1, (3, heads, -1))  # (N, L, 3, heads, d)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (N, heads, L, d)
    logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # (N, heads, L, L)
    weights = logits.softmax(-1)
    attended = weights @ v  # (N, heads, L, d)
    joined = attended.transpose(1, 2).flatten(2)  # (N, L, C)
    out: torch.Tensor = layer.proj_drop(layer.proj(joined))
    return out


def self_attention(layer: SelfAttention, x: torch.Tensor) -> torch.Tensor:
    """Return the normalised sum of the tokens and their attention."""
    tokens = x.flatten(2).transpose(1, 2) if layer.layout == "NCHW" else x.flatten(1, -2)
    attended = attention(layer, tokens)
    added = tokens + attended
    y = layer.get_submodule(f"{layer.prefix}_layer_normalization")(added)
    if layer.layout == "NCHW":
        return ordered_as(y.transpose(1, 2).reshape(x.shape), x)
    return y.reshape(x.shape)  # type: ignore[no-any-return] # a module's output


def attention(layer: SelfAttention, tokens: torch.Tensor) -> torch.Tensor:
    """Return the attention of every token to all, (N, L, E)."""
    block: Any = layer.get_submodule(f"{layer.prefix}_multi_head_attention")
    heads = block.num_heads
    q, k, v = (
        t.unflatten(-1, (heads, -1)).transpose(1, 2)
        for t in (block.query(tokens), block.key(tokens), block.value(tokens))
    )  # (N, heads, L, d)
    logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # (N, heads, L, L)
    if block.mask:
        later = torch.ones_like(logits[0, 0], dtype=torch.bool).triu(1)
        logits = logits.masked_fill(later, float("-inf"))
    weights = logits.softmax(-1)
    attended = (weights @ v).transpose(1, 2).flatten(2)  # (N, L, heads d)
    return block.output(attended)  # type: ignore[no-any-return] # a module's output


def window_attention(layer: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Return the attended map, of the shape of `x`."""
    maps = x if layer.layout == "NHWC" else x.permute(0, 2, 3, 1)  # (N, H, W, C)
    N, H, W, C = maps.shape
    M, shift, heads = layer.window_size, layer.shift_size, layer.num_heads
    rows, columns = count_windows(H, M), count_windows(W, M)
    padded = filled_up(maps, rows * M, columns * M)  # (N, H', W', C)
    shifted = padded.roll((-shift, -shift), (1, 2)) if shift else padded
    windows = split(shifted, rows, columns).flatten(2, 3)  # (N, P, M², C)
    qkv = layer.qkv(windows).unflatten(-1, (3, heads, -1))  # (N, P, M², 3, heads, d)
    q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)  # (N, P, heads, M², d)
    B = relative_bias(layer)  # (heads, M², M²)
    logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + B  # (N, P, heads, M², M²)
    if shift:
        mask = apart(layer, rows, columns)  # (P, 1, M², M²)
        logits = logits + mask * FORBIDDEN
    weights = logits.softmax(-1)
    attended = (weights @ v).transpose(2, 3).flatten(3)  # (N, P, M², C)
    projected = layer.proj(attended).view(N, rows * columns, M, M, C)
    y = join(projected, rows, columns)  # (N, H', W', C)
    unshifted = y.roll((shift, shift), (1, 2)) if shift else y
    out: torch.Tensor = layer.proj_drop(cut_off(unshifted, H, W).contiguous())
    return out if layer.layout == "NHWC" else ordered_as(out.permute(0, 3, 1, 2), x)


def relative_bias(layer: WindowAttention) -> torch.Tensor:
    """Return the learned bias of each head for each pair of pixels in a window."""
    index = layer.relative_position_index  # (M², M²)
    return layer.relative_position_bias_table[index].permute(2, 0, 1)


def apart(layer: WindowAttention, rows: int, columns: int) -> torch.Tensor:
    """Return whether two pixels of a window were apart before the shift: (P, 1, M², M²)."""
    M, shift = layer.window_size, layer.shift_size
    region = torch.zeros(1, rows * M, columns * M, 1, device=layer.qkv.weight.device)
    bands = (slice(0, -M), slice(-M, -shift), slice(-shift, None))
    for number, (down, right) in enumerate((a, b) for a in bands for b in bands):
        region[:, down, right] = number
    numbers = split(region, rows, columns).flatten(2)[0]  # (P, M²)
    return (numbers[:, None, :, None] != numbers[:, None, None, :]).float()

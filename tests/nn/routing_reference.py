"""Bi-level routing attention written out window by window, slow and plain, to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import torch

Pixels = torch.Tensor  # (pixels of a window, channels)


@dataclass(frozen=True)
class Setting:
    """The options of the reference, under the published names."""

    dim: int = 8
    num_heads: int = 2
    n_win: int = 2
    qk_dim: int | None = None
    qk_scale: float | None = None
    kv_per_win: int = 2
    kv_downsample_ratio: int = 2
    kv_downsample_mode: str = "identity"
    topk: int = 2
    param_attention: str = "qkvo"
    param_routing: bool = False
    diff_routing: bool = False
    soft_routing: bool = False
    side_dwconv: int = 3
    auto_pad: bool = False


def routed_attention(
    x: torch.Tensor, weights: Mapping[str, torch.Tensor], setting: Setting
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the map, the routed indices and the routing weights of an (N, H, W, C) map."""
    done = [_sample(image, weights, setting) for image in x]
    maps, indices, shares = zip(*done, strict=True)
    return torch.stack(maps), torch.stack(indices), torch.stack(shares)


def _sample(
    image: torch.Tensor, weights: Mapping[str, torch.Tensor], s: Setting
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    height, width, dim = image.shape
    qk = s.qk_dim or s.dim
    scale = s.qk_scale or qk**-0.5
    h, w = ceil(height / s.n_win), ceil(width / s.n_win)
    full = torch.zeros(h * s.n_win, w * s.n_win, dim, dtype=image.dtype)
    full[:height, :width] = image
    projected = full @ weights["qkv.qkv.weight"].T + weights["qkv.qkv.bias"]
    query, key, value = projected[..., :qk], projected[..., qk : 2 * qk], projected[..., 2 * qk :]
    places = [(slice(j * h, j * h + h), slice(i * w, i * w + w))
              for j in range(s.n_win) for i in range(s.n_win)]  # fmt: skip
    indices, shares = _routes([query[p] for p in places], [key[p] for p in places], weights, s)
    out = torch.zeros_like(value)
    for number, place in enumerate(places):
        keys, values = [], []
        for rank, other in enumerate(indices[number].tolist()):
            share = shares[number, rank] if s.soft_routing else 1.0
            keys.append(_fewer(key[places[other]], s) * share)
            values.append(_fewer(value[places[other]], s) * share)
        pixels = query[place].reshape(h * w, qk)
        attended = _heads(pixels, torch.cat(keys), torch.cat(values), scale, s.num_heads)
        out[place] = attended.reshape(h, w, dim)
    if s.side_dwconv:
        out = out + _depthwise(value, weights["lepe.weight"], weights["lepe.bias"])
    if s.param_attention == "qkvo":
        out = out @ weights["wo.weight"].T + weights["wo.bias"]
    return out[:height, :width], indices, shares


def _routes(
    queries: list[Pixels], keys: list[Pixels], weights: Mapping[str, torch.Tensor], s: Setting
) -> tuple[torch.Tensor, torch.Tensor]:
    q = torch.stack([query.mean((0, 1)) for query in queries])
    k = torch.stack([key.mean((0, 1)) for key in keys])
    if not s.diff_routing:
        q, k = q.detach(), k.detach()
    if s.param_routing:
        q = q @ weights["router.emb.weight"].T + weights["router.emb.bias"]
        k = k @ weights["router.emb.weight"].T + weights["router.emb.bias"]
    affinity = q @ k.T * (s.qk_scale or q.shape[1] ** -0.5)
    order = affinity.argsort(dim=1, descending=True)[:, : s.topk]
    return order, torch.softmax(torch.gather(affinity, 1, order), dim=1)


def _heads(query: Pixels, key: Pixels, value: Pixels, scale: float, heads: int) -> torch.Tensor:
    parts = []
    for q, k, v in zip(*(t.chunk(heads, dim=1) for t in (query, key, value)), strict=True):
        rows = [torch.softmax(scale * (k @ pixel), dim=0) @ v for pixel in q]
        parts.append(torch.stack(rows))
    return torch.cat(parts, dim=1)


def _fewer(window: torch.Tensor, s: Setting) -> Pixels:
    h, w, channels = window.shape
    if s.kv_downsample_mode == "identity":
        return window.reshape(h * w, channels)
    if s.kv_downsample_mode.startswith("ada_"):
        rows, columns = _bins(h, s.kv_per_win), _bins(w, s.kv_per_win)
    else:
        step = s.kv_downsample_ratio
        rows = [(i * step, i * step + step) for i in range(h // step)]
        columns = [(i * step, i * step + step) for i in range(w // step)]
    parts = [window[a:b, c:d].reshape(-1, channels) for a, b in rows for c, d in columns]
    if s.kv_downsample_mode.endswith("maxpool"):
        return torch.stack([part.max(0).values for part in parts])
    return torch.stack([part.mean(0) for part in parts])


def _bins(length: int, count: int) -> list[tuple[int, int]]:
    return [(i * length // count, ceil((i + 1) * length / count)) for i in range(count)]


def _depthwise(value: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    height, width, channels = value.shape
    side = weight.shape[-1]
    reach = side // 2
    padded = torch.zeros(height + 2 * reach, width + 2 * reach, channels, dtype=value.dtype)
    padded[reach : reach + height, reach : reach + width] = value
    out = bias.expand(height, width, channels)
    for dy in range(side):
        for dx in range(side):
            out = out + padded[dy : dy + height, dx : dx + width] * weight[:, 0, dy, dx]
    return out

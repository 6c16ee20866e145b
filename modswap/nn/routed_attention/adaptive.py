"""Adaptive pooling by sums and maxima, which an exported graph supports for windows of any size."""

import torch


def adaptive_pool(maps: torch.Tensor, side: int, *, largest: bool) -> torch.Tensor:
    """Return the means, or maxima, of torch's adaptive pooling: (N, C, h, w) -> (N, C, side, side).

    Torch exports its own pooling to ONNX for a single size, and its backward pass on CUDA is not
    deterministic.
    """
    down = _parts(maps.shape[2], side, maps.device)  # (side, h)
    right = _parts(maps.shape[3], side, maps.device)  # (side, w)
    if largest:
        return _maxima(_maxima(maps, right).transpose(2, 3), down).transpose(2, 3)
    sums = down.to(maps.dtype) @ maps @ right.to(maps.dtype).T
    return sums / (down.sum(1)[:, None] * right.sum(1))


def _parts(length: int, side: int, device: torch.device) -> torch.Tensor:
    """Return the positions of each part, as torch divides them: (side, length), bool."""
    part = torch.arange(side, device=device)[:, None]
    place = torch.arange(length, device=device)
    return (place >= part * length // side) & (place * side < (part + 1) * length)


def _maxima(maps: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Return the maxima of parts of the last axis: (N, C, h, w) -> (N, C, h, side)."""
    return maps[..., None, :].masked_fill(~parts, float("-inf")).amax(-1)

"""Outputs of modules as maps with the channels on the second axis."""

from typing import Any

import torch

from modswap.live_values import live_tensors


def tensor_of(output: Any) -> torch.Tensor | None:
    """Return the first floating tensor of an output; None if it has none."""
    return next((one for one in live_tensors(output) if one.is_floating_point()), None)


def map_of(tensor: torch.Tensor, layout: str | None, size: tuple[int, int]) -> torch.Tensor:
    """Return a tensor of a layout as (N, C, H, W); tokens make a map of the size."""
    if layout == "NHWC":
        return tensor.permute(0, 3, 1, 2)
    if layout == "NLC" or tensor.ndim == 3:
        channels_first = tensor.transpose(1, 2)
        return channels_first.reshape(*channels_first.shape[:2], *size)
    return tensor

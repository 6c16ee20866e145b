"""Outputs of modules as maps with the channels on the second axis."""

from collections.abc import Callable
from typing import Any

import torch

from modswap.live_values import live_tensors

View = Callable[[torch.Tensor], torch.Tensor]


def tensor_of(output: Any) -> torch.Tensor | None:
    """Return the first floating tensor of an output; None if it has none."""
    return next((one for one in live_tensors(output) if one.is_floating_point()), None)


def view_as(source: torch.Tensor, target: torch.Tensor) -> View | None:
    """Return how a layer's output became a module's: the inverse, from the target's axes.

    None if the module does more to it than to move axes.
    """
    for forward, backward in _views(source.shape):
        try:
            moved = forward(source)
        except (RuntimeError, IndexError):
            continue
        if moved.shape == target.shape and torch.allclose(moved, target, 1e-5, 1e-6):
            return backward
    return None


def _views(shape: torch.Size) -> list[tuple[View, View]]:
    """Return ways from a tensor of a shape to others, each with the way back."""
    found: list[tuple[View, View]] = [(lambda t: t, lambda t: t)]
    if len(shape) == 4:
        n, a, b, c = shape
        found += [
            (lambda t: t.permute(0, 3, 1, 2), lambda t: t.permute(0, 2, 3, 1)),
            (lambda t: t.permute(0, 2, 3, 1), lambda t: t.permute(0, 3, 1, 2)),
            (lambda t: t.flatten(1, 2), lambda t: t.reshape(t.shape[0], a, b, c)),
            (
                lambda t: t.flatten(2).transpose(1, 2),
                lambda t: t.transpose(1, 2).reshape(t.shape[0], a, b, c),
            ),
        ]
    if len(shape) == 3:
        found += [(lambda t: t.transpose(0, 1), lambda t: t.transpose(0, 1))]
        found += [(lambda t: t.transpose(1, 2), lambda t: t.transpose(1, 2))]
    return found


def map_of(tensor: torch.Tensor, layout: str | None, size: tuple[int, int]) -> torch.Tensor:
    """Return a tensor of a layout as (N, C, H, W); tokens make a map of the size."""
    if layout == "NHWC":
        return tensor.permute(0, 3, 1, 2)
    if layout == "NLC" or tensor.ndim == 3:
        return tensor.transpose(1, 2).unflatten(2, size)
    return tensor

"""Compare the outputs of two modules."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from modswap.live_values import live_tensors
from modswap.seeds import seeded

CLOSE = 1e-4  # of the largest value: kernels may add in another order


def distance(a: nn.Module, b: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Return how far the outputs of two modules are apart; 0 if no further than rounding explains.

    Both are as they were afterwards, and so is torch's random state.
    """
    found = []
    for module in (a, b):
        with _kept(module), seeded(0), torch.no_grad():
            found.append(live_tensors(module(*args, **kwargs)))
    if len(found[0]) != len(found[1]):
        return float("inf")
    return max((apart(*pair) for pair in zip(*found, strict=True)), default=0.0)


@contextmanager
def _kept(module: nn.Module) -> Iterator[None]:
    """Put a module's buffers back after a block."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return how far two tensors are apart; 0 if no further than rounding explains."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    x, y = (tensor.to(torch.complex128 if a.is_complex() else torch.float64) for tensor in (a, b))
    if torch.allclose(x, y, rtol=0, atol=_rounding(a.dtype, x), equal_nan=True):
        return 0.0
    return float((x - y).abs().nan_to_num(float("inf")).max())


def _rounding(dtype: torch.dtype, values: torch.Tensor) -> float:
    """Return the difference that rounding explains; whole numbers have none."""
    if not (dtype.is_floating_point or dtype.is_complex):
        return 0.0
    step = max(CLOSE, 4 * torch.finfo(dtype).eps)
    return step * max(1.0, float(values.abs().nan_to_num(0.0, 0.0).max()))


def deviation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference of two tensors of one shape, however small; NaN equals NaN."""
    x, y = (tensor.to(torch.complex128) for tensor in (a, b))
    same = (x == y) | (x.isnan() & y.isnan())
    return float((x - y).abs().masked_fill(same, 0.0).max()) if a.numel() else 0.0

"""Memory format of maps."""

import torch

from modswap.nn.kernels.tracing import transformed


def order_of(x: torch.Tensor) -> torch.memory_format:
    """Return the memory format of an NCHW map: channels last, or contiguous."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def ordered_as(y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return an NCHW map in the memory format of another."""
    if transformed(y, like):
        return y  # a transformed tensor has no memory format
    return y.contiguous(memory_format=order_of(like))

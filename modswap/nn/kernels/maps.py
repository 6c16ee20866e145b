"""What the modules of the catalogue share about maps."""

import torch

from modswap.nn.kernels.tracing import transformed


def check_map(x: torch.Tensor, channels: int) -> None:
    """Refuse what is no map of so many channels, (N, C, H, W).

    Raises:
        ValueError: If it is none.
    """
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"expected a map (N, {channels}, H, W), got {tuple(x.shape)}")


def check_positive(**sizes: int) -> None:
    """Refuse sizes below 1.

    Raises:
        ValueError: If there is one.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def lying_as(y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return an NCHW map lying in memory as another does: channels last, or contiguous."""
    if transformed(y, like):
        return y  # which nothing can be asked how it lies
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    return y.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

"""Checks of the arguments and inputs of the catalogue's layers: each refusal is a ValueError."""

import torch


def check_positive(**sizes: int) -> None:
    """Refuse sizes below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def check_odd(**sides: int) -> None:
    """Refuse even sides of a kernel or window, which has no middle, and sides below 1."""
    check_positive(**sides)
    for name, side in sides.items():
        if side % 2 == 0:
            raise ValueError(f"{name} must be odd, got {side}")


def check_divides(name: str, heads: int, **channels: int) -> None:
    """Refuse numbers of channels that a number of heads does not divide."""
    for channel_name, number in channels.items():
        if number % heads:
            raise ValueError(f"{channel_name} {number} is not divisible by {name} {heads}")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is not among the known ones."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def check_map(x: torch.Tensor, channels: int) -> None:
    """Refuse a tensor that is no map (N, C, H, W) of a number of channels."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"expected a map (N, {channels}, H, W), got {tuple(x.shape)}")

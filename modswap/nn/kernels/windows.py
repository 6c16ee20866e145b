"""Cut a map into windows, and join windows to a map."""

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from modswap.nn.kernels.tracing import recorded


def split(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Return the windows of a map, row by row: (N, H, W, C) -> (N, P, H / rows, W / columns, C).

    P = rows x columns, the windows above one another and side by side; they divide H and W.
    """
    N, H, W, C = x.shape
    h, w = H // rows, W // columns
    x = x.reshape(N, rows, h, columns, w, C).transpose(2, 3)  # (N, rows, columns, h, w, C)
    return x.reshape(N, rows * columns, h, w, C)


def join(windows: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Return the map of windows, row by row: (N, P, h, w, C) -> (N, rows h, columns w, C)."""
    N, _, h, w, C = windows.shape
    return in_place(windows, rows, columns).reshape(N, rows * h, columns * w, C)


def join_onto(x: torch.Tensor, windows: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Return a map with that of windows added: (N, H, W, C), (N, P, h, w, C) -> (N, H, W, C).

    The map is written to where no gradients are recorded.
    """
    placed = in_place(windows, rows, columns)  # (N, rows, h, columns, w, C)
    if not (x.requires_grad or placed.requires_grad):
        x.view(placed.shape).add_(placed)
        return x
    return (x.reshape(placed.shape) + placed).reshape(x.shape)


def in_place(windows: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Return a view: (N, P, h, w, C) -> (N, rows, h, columns, w, C)."""
    N, _, h, w, C = windows.shape
    return windows.view(N, rows, columns, h, w, C).transpose(2, 3)


def inside(
    height: int, width: int, shape: tuple[int, int], rows: int, columns: int, like: torch.Tensor
) -> torch.Tensor:
    """Return the mask of windows' pixels that are no padding: (P, h, w), bool.

    Height and width are those before the padding, `shape` those after it; `like` is for the device.
    """
    down = torch.arange(shape[0], device=like.device) < height
    right = torch.arange(shape[1], device=like.device) < width
    real = down[:, None] & right  # (H, W)
    return split(real[None, :, :, None], rows, columns)[0, ..., 0]


def count_windows(size: int, side: int) -> int:
    """Return the number of windows that cover a size, in a form that torch can simplify."""
    return (size + side - 1) // side


def filled_up(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return an NHWC map padded with zeros at the bottom and the right to a size."""
    bottom, right = height - x.shape[1], width - x.shape[2]
    # in a graph always: it runs at sizes with and without padding
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if recorded() or bottom or right else x


def cut_off(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return an NHWC map cropped at the bottom and the right to a size."""
    if not recorded():
        return x[:, :height, :width]
    # a graph fixes whether its slice is contiguous; the output of padding always is
    return F.pad(x, (0, 0, 0, width - x.shape[2], 0, height - x.shape[1]))

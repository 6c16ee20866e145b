"""Read the routing of a bi-level routing attention: which windows attend to which."""

from typing import Any

import torch

from modswap.core.errors import ExplainError
from modswap.core.explained.routing import Box, RoutedWindows
from modswap.nn import BiLevelRoutingAttention
from modswap.nn.kernels.windows import count_windows
from modswap.ops.explain.passes import Forward, Fresh, repeatable


def is_routed(module: torch.nn.Module) -> bool:
    """Return whether a module has a routing."""
    return isinstance(module, BiLevelRoutingAttention)


def refuse_unrouted(module: torch.nn.Module, title: str) -> None:
    """Refuse a module that has no routing.

    Raises:
        ExplainError: If it is no bi-level routing attention.
    """
    if not is_routed(module):
        what = "it has no routing: it is no BiLevelRoutingAttention"
        fix = "leave --routing out, or name such a module: `modswap tree FILE` lists them"
        raise ExplainError(what, title, fix)


def routed_windows(forward: Forward, size: tuple[int, int] | None, seed: int = 0) -> RoutedWindows:
    """Return the routing of the first sample, in pixels of the model's picture.

    `size` is its width and height; None: those of the map itself.
    """
    layer: Any = forward.module
    seen: list[Any] = []
    handle = layer.router.register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        with repeatable(layer, seed) as fresh:
            _run(forward, fresh)
    finally:
        handle.remove()
    x = forward.args[0]
    height, width = x.shape[1:3] if layer.layout == "NHWC" else x.shape[2:]
    picture = size or (int(width), int(height))
    rows, columns, boxes = _boxes(layer, (int(height), int(width)), picture)
    routes, weights = (part[0].tolist() for part in (seen[0].indices, seen[0].weights.float()))
    return RoutedWindows(
        width=picture[0],
        height=picture[1],
        rows=rows,
        columns=columns,
        boxes=boxes,
        routes=tuple(map(tuple, routes)),
        weights=tuple(map(tuple, weights)),
    )


def _run(forward: Forward, fresh: Fresh) -> None:
    with fresh():
        Forward(forward.module, forward.args, forward.kwargs).run()


def _boxes(
    layer: Any, size: tuple[int, int], picture: tuple[int, int]
) -> tuple[int, int, tuple[Box | None, ...]]:
    """Return the rows and columns of windows, and the place of each in the picture."""
    height, width = size
    if layer.variant == "original":
        rows = columns = layer.n_win
        h, w = (count_windows(side, layer.n_win) for side in size)
    else:
        h, w = height // layer.n_win, width // layer.n_win
        rows, columns = count_windows(height, h), count_windows(width, w)
    across, down = picture[0] / width, picture[1] / height

    def box(row: int, column: int) -> Box | None:
        top, left = row * h, column * w
        if top >= height or left >= width:
            return None
        right, bottom = min(left + w, width), min(top + h, height)
        return left * across, top * down, right * across, bottom * down

    found = tuple(box(row, column) for row in range(rows) for column in range(columns))
    return rows, columns, found

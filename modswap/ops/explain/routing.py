"""Read the routing of a bi-level routing attention: which windows attend to which."""

from typing import Any

import torch

from modswap.core.errors import ExplainError
from modswap.core.explained.routing import RoutedWindows
from modswap.nn import BiLevelRoutingAttention
from modswap.ops.explain.passes import Forward, Fresh, repeatable
from modswap.ops.measure.site_routing import map_size, windows_of


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
    size_of_map = map_size(layer, forward.args[0])
    return windows_of(layer, size_of_map, seen[0], size or size_of_map[::-1])


def _run(forward: Forward, fresh: Fresh) -> None:
    with fresh():
        Forward(forward.module, forward.args, forward.kwargs).run()

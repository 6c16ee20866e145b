"""Make a site of every module, from what the passes saw."""

from dataclasses import replace

import torch
from torch import nn

from modswap.core.seen.layout import Clue, judge_layout
from modswap.core.seen.site import Call, Site
from modswap.ops.run.describe import class_name, dtype_name
from modswap.ops.trace.passes import Trace, first_paths
from modswap.ops.trace.token_grids import grids_of, maps_of


def sites_of(model: nn.Module, traces: tuple[Trace, ...]) -> tuple[Site, ...]:
    """Return every module of the model but the model itself, with all that the passes saw.

    Args:
        model: The model.
        traces: Passes over it.
    """
    aliases = _aliases(model)
    calls: dict[str, list[Call]] = {}
    for one in traces:
        for path, found in one.seen.by_path().items():
            calls.setdefault(path, []).extend(found)
    clues = [clue for one in traces for clue in one.clues]
    same: dict[str, list[Clue]] = {}
    for one in traces:
        for path, given in one.same_tensor.items():
            same.setdefault(path, []).extend(given)
    maps = [maps_of(one.seen.visits, one.clues) for one in traces]
    sites = (
        _site(path, module, aliases[module], tuple(calls.get(path, ())), same.get(path, []), clues)
        for module, path in first_paths(model)
        if path
    )
    return tuple(replace(site, grids=grids_of(site, maps)) for site in sites)


def _aliases(model: nn.Module) -> dict[nn.Module, tuple[str, ...]]:
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    return {module: tuple(found[1:]) for module, found in paths.items()}


def _site(
    path: str,
    module: nn.Module,
    aliases: tuple[str, ...],
    calls: tuple[Call, ...],
    same: list[Clue],
    clues: list[Clue],
) -> Site:
    parameters = list(module.parameters())
    floating = next((p for p in parameters if p.is_floating_point()), None)
    seen = Site(path, class_name(module), aliases, calls).input
    layout, reason = judge_layout(path, seen.shape, same, clues) if seen else (None, "")
    maps = [p for p in parameters if p.ndim == 4]
    dtype = dtype_name(floating.dtype) if floating is not None else (seen.dtype if seen else "")
    device = str(floating.device) if floating is not None else (seen.device if seen else "cpu")
    return Site(
        path=path,
        class_name=class_name(module),
        aliases=aliases,
        calls=calls,
        layout=layout,
        layout_reason=reason,
        params=sum(p.numel() for p in parameters),
        nbytes=sum(t.numel() * t.element_size() for t in (*parameters, *module.buffers())),
        dtype=dtype or "float32",
        device=device,
        training=module.training,
        trainable=not parameters or any(p.requires_grad for p in parameters),
        channels_last=bool(maps) and all(_is_channels_last(p) for p in maps),
    )


def _is_channels_last(tensor: torch.Tensor) -> bool:
    last = tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()

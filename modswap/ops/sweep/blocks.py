"""The block around a site: the nearest module around it that computes more than the site does."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from modswap.live_values import module_paths
from modswap.ops.apply import module_at
from modswap.ops.heal.closed.maps import tensor_of
from modswap.ops.heal.measures.passes import outputs_of, still
from modswap.ops.heal.samples import Batch


def blocks_of(model: nn.Module, batch: Batch, sites: Sequence[str]) -> dict[str, str]:
    """Return the path of the block around each site, found by a pass; empty for the model itself.

    It is the nearest module around the site that is called, gives a tensor, and gives another one
    than the site: a container that only passes the site's output on is none.
    """
    places = [place.path for place in module_paths(model) if place.path]
    around = {site: _around(site, places) for site in sites}
    watched = {*sites, *(path for paths in around.values() for path in paths)}
    outputs = _outputs(model, batch, watched)
    return {site: _block(site, around[site], outputs) for site in sites}


def _around(site: str, places: Sequence[str]) -> list[str]:
    """Return the paths of the modules around a site, the nearest first, but the model itself."""
    return sorted((one for one in places if site.startswith(f"{one}.")), key=len, reverse=True)


def _block(site: str, around: Sequence[str], outputs: dict[str, torch.Tensor]) -> str:
    own = outputs.get(site)
    for path in around:
        given = outputs.get(path)
        if given is not None and not (own is not None and _same(own, given)):
            return path
    return ""


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _outputs(model: nn.Module, batch: Batch, paths: set[str]) -> dict[str, torch.Tensor]:
    """Return the first output of each module that gives a tensor, a row for each sample."""
    found: dict[str, torch.Tensor] = {}
    handles = []
    for path in paths:

        def note(_: nn.Module, __: Any, output: Any, path: str = path) -> None:
            tensor = tensor_of(output)
            if tensor is not None and tensor.ndim > 1:
                found.setdefault(path, tensor.clone())

        handles.append(module_at(model, path).register_forward_hook(note))
    try:
        with still(model):
            outputs_of(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return found

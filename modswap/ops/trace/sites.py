"""Make a site of every module from the recorded passes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, takewhile
from typing import TypeVar

from torch import nn

from modswap.core.seen.layout import Clue, judge_layout
from modswap.core.seen.site import Call, Layout, Site
from modswap.core.seen.values import TensorInfo
from modswap.live_values import dtype_name
from modswap.ops.run.describe import class_name, positional
from modswap.ops.trace.passes import Trace
from modswap.ops.trace.recorder import memory_layout
from modswap.ops.trace.token_grids import grids_of, maps_of

Item = TypeVar("Item")


def sites_of(model: nn.Module, traces: Sequence[Trace]) -> tuple[Site, ...]:
    """Return a site for every module inside the model, as its traces show it."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    del paths[model]
    calls = _joined(one.seen.by_path() for one in traces)
    same = _joined(one.same_tensor for one in traces)
    clues = list(chain.from_iterable(one.clues for one in traces))
    maps = [maps_of(one.seen.visits, one.clues) for one in traces]
    sites = []
    for module, (path, *aliases) in paths.items():
        site = _site(path, module, tuple(aliases), tuple(calls.get(path, ())))
        if (seen := site.input) is not None:
            layout, reason = judge_layout(path, seen.shape, same.get(path, []), clues)
            site = replace(site, layout=layout, layout_reason=reason)
            site = replace(site, layouts=_further_layouts(site, clues))
        sites.append(replace(site, grids=grids_of(site, maps)))
    return tuple(sites)


def _further_layouts(
    site: Site, clues: Sequence[Clue]
) -> tuple[tuple[str, Layout | None, str], ...]:
    """Return the layouts of the first call's further tensors, with the reasons for them."""
    further = [(n, v) for n, v in site.calls[0].named if isinstance(v, TensorInfo)]
    return tuple(
        (name, *judge_layout(site.path, tensor.shape, (), clues))
        for name, tensor in further
        if tensor != site.input
    )


def _joined(passes: Iterable[Mapping[str, Sequence[Item]]]) -> dict[str, list[Item]]:
    """Return the items of each path from all passes."""
    found: dict[str, list[Item]] = {}
    for by_path in passes:
        for path, items in by_path.items():
            found.setdefault(path, []).extend(items)
    return found


def _site(path: str, module: nn.Module, aliases: tuple[str, ...], calls: tuple[Call, ...]) -> Site:
    parameters = list(module.parameters())
    dtype, device = _dtype_and_device(parameters, Site(path, "", aliases, calls).input)
    maps = [p for p in parameters if p.ndim == 4]
    used = max((len(call.args) for call in calls), default=0)
    several = any(len(call.named) > 1 for call in calls)
    return Site(
        path=path,
        class_name=class_name(module),
        aliases=aliases,
        calls=calls,
        params=sum(p.numel() for p in parameters),
        nbytes=sum(t.numel() * t.element_size() for t in (*parameters, *module.buffers())),
        dtype=dtype,
        device=device,
        training=module.training,
        trainable=not parameters or any(p.requires_grad for p in parameters),
        names=tuple(takewhile(str.isidentifier, positional(module, used))) if several else (),
        channels_last=bool(maps) and all(memory_layout(p) == "channels_last" for p in maps),
    )


def _dtype_and_device(
    parameters: Sequence[nn.Parameter], seen: TensorInfo | None
) -> tuple[str, str]:
    """Return those of a site's first floating parameter, or else of its input."""
    for parameter in parameters:
        if parameter.is_floating_point():
            return dtype_name(parameter.dtype), str(parameter.device)
    return (seen.dtype or "float32", seen.device) if seen else ("float32", "cpu")

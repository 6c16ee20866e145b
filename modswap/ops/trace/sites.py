"""Make a site of every module from the recorded passes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, takewhile
from typing import NamedTuple, TypeVar

from torch import nn

from modswap.core.seen.layout import KnownLayers, judge_layout, other_layout
from modswap.core.seen.site import Call, Layout, Site
from modswap.core.seen.tree import first_below
from modswap.core.seen.values import TensorInfo
from modswap.live_values import ModulePath, dtype_name, module_paths, sizes_below
from modswap.ops.run.describe import class_name, positional
from modswap.ops.trace.passes import Trace
from modswap.ops.trace.recorder import memory_layout
from modswap.ops.trace.token_grids import grids_of, maps_of

Item = TypeVar("Item")


def sites_of(model: nn.Module, traces: Sequence[Trace]) -> tuple[Site, ...]:
    """Return a site for every module inside the model, as its traces show it."""
    places = tuple(module_paths(model))
    paths = _paths(places)
    held = _held_below(places)
    calls = _joined(one.seen.by_path() for one in traces)
    same = _joined(one.same_tensor for one in traces)
    known = KnownLayers(chain.from_iterable(one.clues for one in traces))
    maps = [maps_of(one.seen.visits, one.clues) for one in traces]
    sites = []
    for number, (path, *aliases) in paths.items():
        module, own = places[number].module, tuple(calls.get(path, ()))
        site = _site(path, module, held[number], tuple(aliases), own)
        if (seen := site.input) is not None:
            own_clues = same.get(path, [])
            layout, reason = judge_layout(path, seen.shape, own_clues, known)
            other = other_layout(seen.shape, own_clues)
            site = replace(site, layout=layout, layout_reason=reason, other_layout=other)
            site = replace(site, layouts=_further_layouts(site, known))
        sites.append(replace(site, grids=grids_of(site, maps)))
    return tuple(sites)


def _further_layouts(site: Site, known: KnownLayers) -> tuple[tuple[str, Layout | None, str], ...]:
    """Return the layouts of the first call's further tensors, with the reasons for them."""
    further = [(n, v) for n, v in site.calls[0].named if isinstance(v, TensorInfo)]
    return tuple(
        (name, *judge_layout(site.path, tensor.shape, (), known))
        for name, tensor in further
        if tensor != site.input
    )


def _paths(places: Sequence[ModulePath]) -> dict[int, list[str]]:
    """Return the paths of every module inside a model, by the number of the first."""
    numbers: dict[nn.Module, int] = {}
    paths: dict[int, list[str]] = {}
    for number, place in enumerate(places):
        paths.setdefault(numbers.setdefault(place.module, number), []).append(place.path)
    del paths[0]
    return paths


def _joined(passes: Iterable[Mapping[str, Sequence[Item]]]) -> dict[str, list[Item]]:
    """Return the items of each path from all passes."""
    found: dict[str, list[Item]] = {}
    for by_path in passes:
        for path, items in by_path.items():
            found.setdefault(path, []).extend(items)
    return found


class _Held(NamedTuple):
    """The tensors of a module and of all modules in it."""

    params: int
    nbytes: int
    floating: nn.Parameter | None  # the first parameter that is
    trainable: bool
    channels_last: bool


def _held_below(places: Sequence[ModulePath]) -> tuple[_Held, ...]:
    """Return the tensors at each path of a model, in one walk."""
    parents = [place.parent for place in places]
    own = [tuple(place.module.parameters(recurse=False)) for place in places]

    def some(match: Callable[[nn.Parameter], bool]) -> tuple[nn.Parameter | None, ...]:
        return first_below(parents, [next(filter(match, held), None) for held in own])

    below = zip(
        *sizes_below(places),
        some(nn.Parameter.is_floating_point),
        some(lambda one: one.requires_grad),
        some(lambda one: not one.requires_grad),
        some(lambda one: one.ndim == 4),
        some(lambda one: one.ndim == 4 and memory_layout(one) != "channels_last"),
        strict=True,
    )
    return tuple(
        _Held(params, nbytes, floating, trained is not None or frozen is None, _only(maps, other))
        for params, nbytes, floating, trained, frozen, maps, other in below
    )


def _only(some: nn.Parameter | None, other: nn.Parameter | None) -> bool:
    return some is not None and other is None


def _site(
    path: str,
    module: nn.Module,
    held: _Held,
    aliases: tuple[str, ...],
    calls: tuple[Call, ...],
) -> Site:
    dtype, device = _dtype_and_device(held.floating, Site(path, "", aliases, calls).input)
    used = max((len(call.args) for call in calls), default=0)
    several = any(len(call.named) > 1 for call in calls)
    return Site(
        path=path,
        class_name=class_name(module),
        aliases=aliases,
        calls=calls,
        params=held.params,
        nbytes=held.nbytes,
        dtype=dtype,
        device=device,
        training=module.training,
        trainable=held.trainable,
        names=tuple(takewhile(str.isidentifier, positional(module, used))) if several else (),
        channels_last=held.channels_last,
    )


def _dtype_and_device(first: nn.Parameter | None, seen: TensorInfo | None) -> tuple[str, str]:
    """Return those of a site's first floating parameter, or else of its input."""
    if first is not None:
        return dtype_name(first.dtype), str(first.device)
    return (seen.dtype or "float32", seen.device) if seen else ("float32", "cpu")

"""Calls of further sizes, at which only one layout of a map fits."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from math import isqrt

from modswap.core.seen.site import Call, Grid, Layout, Site, extent
from modswap.core.seen.values import TensorInfo
from modswap.nn.fit.inputs import first_map
from modswap.nn.fit.outputs import map_given

PROBE_FACTORS = ((2, 1), (1, 2), (2, 4), (4, 2), (2, 3), (3, 2), (4, 6), (3, 5))
MAX_PROBES = 4  # further sizes that are tried


def differ(tensor: TensorInfo, layout: Layout) -> bool:
    """Return whether no side of a map equals its number of channels."""
    first, second, third, *_ = (*tensor.shape[1:], 0)
    match layout:
        case "NCHW":
            return first not in {second, third}
        case "NHWC":
            return third not in {first, second}
    return second not in {first, isqrt(first)}


def probes(site: Site, layout: Layout) -> Iterator[Call]:
    """Yield the site's first call at sizes whose channels, height and width all differ."""
    call = site.calls[0]
    name, tensor = first_map(site, call)
    shapes = (_scaled(tensor.shape, layout, *factors) for factors in PROBE_FACTORS)
    probes = (replace(tensor, shape=shape) for shape in shapes if shape)
    differing = (probe for probe in probes if differ(probe, layout))
    names = {name, *call.repeats(name)}
    for probe in islice(differing, MAX_PROBES):
        args = tuple(probe if str(i) in names else value for i, value in enumerate(call.args))
        kwargs = tuple((key, probe if key in names else value) for key, value in call.kwargs)
        grids = _grown(call, isqrt(probe.shape[1] // tensor.shape[1]))
        yield replace(call, args=args, kwargs=kwargs, grids=grids)


def _grown(call: Call, factor: int) -> tuple[tuple[str, Grid], ...]:
    """Return the grids of a call whose maps have sides that many times as long."""
    return tuple((name, (high * factor, wide * factor)) for name, (high, wide) in call.grids)


def _scaled(shape: tuple[int, ...], layout: Layout, tall: int, wide: int) -> tuple[int, ...]:
    """Return the shape of a larger map; empty if its height and width would be equal."""
    if layout == "NLC":
        return (shape[0], shape[1] * (tall * wide) ** 2, *shape[2:])
    axis = 2 if layout == "NCHW" else 1
    height, width = shape[axis] * tall, shape[axis + 1] * wide
    return () if height == width else (*shape[:axis], height, width, *shape[axis + 2 :])


def is_like(site: Site, layout: Layout, probe: TensorInfo, output: TensorInfo) -> bool:
    """Return whether an output differs from its input as the site's output does."""
    before, _ = map_given(site.calls[0].output)
    _, given = first_map(site, site.calls[0])
    if before is None:
        return False
    if before.shape == given.shape:
        return output.shape == probe.shape
    seen, wanted = extent(output.shape, layout), extent(before.shape, layout)
    return seen is not None and wanted is not None and seen.channels == wanted.channels

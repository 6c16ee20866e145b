"""Choose the output channels and the stride of a module that may change a map's size."""

from dataclasses import replace
from math import ceil
from typing import Any

from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.seen.site import Extent, Layout, Site, extent
from modswap.core.seen.values import TensorInfo
from modswap.nn.fit.inputs import MapInputs, Size
from modswap.nn.fit.outputs import map_given
from modswap.nn.fit.sizes import Draft, choose


def output_choices(
    site: Site, inputs: MapInputs, options: Any, channels: Choice, name: str
) -> tuple[Choice, Choice]:
    """Return the channels of the module's output, the option `name`, and its `stride`.

    Where the output has no map, the input's `channels` are taken.
    """
    outputs = [map_given(call.output)[0] for call in site.calls]
    seen = [extent(tensor.shape, inputs.layout) if tensor else None for tensor in outputs]
    out = _out_channels(name, getattr(options, name), channels, seen)
    return out, _stride(options.stride, inputs.sizes, seen)


def _out_channels(
    name: str, wanted: int | None, channels: Choice, seen: list[Extent | None]
) -> Choice:
    """Return the channels of the module's output: those wanted, or those of the site's output."""
    found = {part.channels for part in seen if part}
    if len(found) == 1:
        (only,) = found
        return choose(name, wanted, only, f"the site gives {only} channels")
    return choose(name, wanted, channels.value, f"as many as {channels.name}")


def _stride(wanted: int | None, sizes: tuple[Size, ...], seen: list[Extent | None]) -> Choice:
    """Return the stride from a site's inputs to its outputs; 1 if no stride explains them."""
    largest = max(max(size.height, size.width) for size in sizes)
    pairs = list(zip(sizes, seen, strict=True))
    for stride in range(1, largest + 1):
        if all(part and _strided(size, part, stride) for size, part in pairs):
            return choose("stride", wanted, stride, _reason(sizes[0], stride))
    return choose("stride", wanted, 1, "no stride gives the site's size")


def _strided(size: Size, seen: Extent, stride: int) -> bool:
    H, W = ceil(size.height / stride), ceil(size.width / stride)
    if seen.height is None:
        return seen.tokens == H * W
    return (seen.height, seen.width) == (H, W)


def _reason(size: Size, stride: int) -> str:
    if stride == 1:
        return "the site keeps the size of its map"
    return f"the site makes {ceil(size.height / stride)}x{ceil(size.width / stride)} of {size}"


def other_size(draft: Draft, out: Choice, stride: Choice, *, adapt: bool) -> Blueprint:
    """Return how to make an NCHW module whose output has other channels and sizes than its input.

    `draft` has all arguments but these two; `stride` is rounded up.
    """
    given = [
        _made(tensor, size, draft.inputs.layout, out.value, stride.value)
        for tensor, size in draft.inputs.sized_maps
    ]
    complete = replace(draft, choices=(*draft.choices, out, stride))
    return complete.blueprint(given, adapt=adapt)


def _made(
    tensor: TensorInfo, size: Size, layout: Layout, channels: int, stride: int
) -> tuple[TensorInfo, Size]:
    """Return the module's map in the site's layout, and its size."""
    N = tensor.shape[0]
    H, W = ceil(size.height / stride), ceil(size.width / stride)
    shapes = {
        "NCHW": (N, channels, H, W),
        "NHWC": (N, H, W, channels),
        "NLC": (N, tensor.shape[1] if stride == 1 else H * W, channels),
    }
    return replace(tensor, shape=shapes[layout]), Size(channels, H, W)

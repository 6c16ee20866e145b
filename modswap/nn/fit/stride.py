"""Choosing output channels and stride of a module that may change a map's size; needs no torch."""

from dataclasses import replace
from math import ceil
from typing import Any

from pydantic import BaseModel

from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.seen.site import Extent, Layout, Site, extent
from modswap.core.seen.values import TensorInfo
from modswap.nn.fit.inputs import Inputs, Size, judge_output, map_given
from modswap.nn.fit.sizes import given


def outputs_of(site: Site, layout: Layout) -> list[Extent | None]:
    """Return the extent of the map that each call of a site gives; None where it gives none."""
    return [_extent(call.output, layout) for call in site.calls]


def _extent(output: Any, layout: Layout) -> Extent | None:
    tensor, _ = map_given(output)
    return extent(tensor.shape, layout) if tensor else None


def out_channels_of(
    name: str, wanted: int | None, channels: Choice, seen: list[Extent | None]
) -> Choice:
    """Return the channels that a module gives.

    Args:
        name: Name of the argument.
        wanted: What the recipe says; None: those that the site gives.
        channels: The channels that it is given; taken where the site gives no map.
        seen: What the site gives in each call.
    """
    if wanted is not None:
        return given(name, wanted)
    found = {part.channels for part in seen if part}
    if len(found) == 1:
        (only,) = found
        return Choice(name, only, f"the site gives {only} channels")
    return Choice(name, channels.value, f"as many as {channels.name}")


def stride_of(wanted: int | None, sizes: tuple[Size, ...], seen: list[Extent | None]) -> Choice:
    """Return the stride that makes a site's outputs of its inputs; 1 if none does.

    Args:
        wanted: What the recipe says; None: as the site has it.
        sizes: What the site is given in each call.
        seen: What it gives.
    """
    if wanted is not None:
        return given("stride", wanted)
    largest = max(max(size.height, size.width) for size in sizes)
    pairs = list(zip(sizes, seen, strict=True))
    for stride in range(1, largest + 1):
        if all(part and _strided(size, part, stride) for size, part in pairs):
            return Choice("stride", stride, _reason(sizes[0], stride))
    return Choice("stride", 1, "no stride gives the site's size")


def _strided(size: Size, seen: Extent, stride: int) -> bool:
    H, W = ceil(size.height / stride), ceil(size.width / stride)
    if seen.height is None:
        return seen.tokens == H * W
    return (seen.height, seen.width) == (H, W)


def _reason(size: Size, stride: int) -> str:
    if stride == 1:
        return "the site keeps the size of its map"
    return f"the site makes {ceil(size.height / stride)}x{ceil(size.width / stride)} of {size}"


def other_size(  # noqa: PLR0913 - what a blueprint is made of
    name: str,
    site: Site,
    inputs: Inputs,
    options: BaseModel,
    choices: tuple[Choice, ...],
    *,
    out: Choice,
    stride: Choice,
    adapt: bool,
) -> Blueprint:
    """Return how to make an NCHW module that gives other channels and sizes than it is given.

    Args:
        name: Name of the catalogue's row.
        site: Where it goes.
        inputs: What the site is given.
        options: What the recipe sets.
        choices: What was decided beside the output; those without a reason are not reported.
        out: The channels that the module gives.
        stride: Pixels of the input for each of the output, rounded up.
        adapt: Whether a projection or pooling may be added.

    Raises:
        ShapeError: If the site gives something else, and nothing may be added, or nothing suffices.
    """
    made = [
        _made(tensor, size, inputs.layout, out.value, stride.value)
        for tensor, size in zip(inputs.maps, inputs.sizes, strict=True)
    ]
    decided = (*choices, out, stride)
    return Blueprint(
        module=name,
        args=options.model_dump() | {choice.name: choice.value for choice in decided},
        layout=inputs.layout,
        wants="NCHW",
        ignores=inputs.ignores,
        adaptation=judge_output(site, inputs.layout, made, adapt=adapt),
        choices=tuple(choice for choice in decided if choice.reason),
        keyword=inputs.keyword,
        repeats=inputs.repeats,
    )


def _made(
    tensor: TensorInfo, size: Size, layout: Layout, channels: int, stride: int
) -> tuple[TensorInfo, Size]:
    """Return the map that the module gives, in the site's layout, and its size."""
    N = tensor.shape[0]
    H, W = ceil(size.height / stride), ceil(size.width / stride)
    shapes = {
        "NCHW": (N, channels, H, W),
        "NHWC": (N, H, W, channels),
        "NLC": (N, tensor.shape[1] if stride == 1 else H * W, channels),
    }
    return replace(tensor, shape=shapes[layout]), Size(channels, H, W)

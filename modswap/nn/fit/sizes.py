"""Choosing the sizes of a module that the catalogue fits to a site; needs no torch."""

from collections.abc import Sequence
from math import gcd
from typing import Any

from pydantic import BaseModel

from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.errors import ShapeError
from modswap.core.seen.site import Layout, Site
from modswap.nn.fit.inputs import Inputs, judge_output

HEAD_SIZE = 32  # channels of a head where that divides, as in most vision papers


def given(name: str, value: Any) -> Choice:
    """Return a value that the recipe set: without a reason, for there is nothing to report."""
    return Choice(name, value, "")


def channels_of(site: Site, inputs: Inputs, name: str, wanted: int | None) -> Choice:
    """Return the channels that a module is given.

    Args:
        site: Where it goes.
        inputs: What the site is given.
        name: Name of the argument.
        wanted: What the recipe says; None: observed.

    Raises:
        ShapeError: If the recipe says another number than the site has.
    """
    channels = inputs.sizes[0].channels
    if wanted is None:
        return Choice(name, channels, f"{channels} channels observed")
    if wanted != channels:
        what = f"{name} is {wanted}, the site is given {channels} channels: {inputs.maps[0]}"
        told = f" as {inputs.layout}; if it lies otherwise, set `layout:`"
        raise ShapeError(what + told, site.path, f"leave `{name}` out", settings=((name, "auto"),))
    return given(name, channels)


def heads_of(
    site: Site, name: str, wanted: int | None, dim: int, qk_dim: int | None = None
) -> Choice:
    """Return the number of attention heads.

    Args:
        site: Where the module goes.
        name: Name of the argument.
        wanted: What the recipe says; None: heads of about `HEAD_SIZE` channels.
        dim: Channels that the heads divide.
        qk_dim: Channels of queries and keys, where these differ.

    Raises:
        ShapeError: If the recipe's number does not divide them.
    """
    common = gcd(dim, qk_dim or dim)
    if wanted is None:
        sizes = [dim // heads for heads in range(1, common + 1) if common % heads == 0]
        size = min(sizes, key=lambda size: abs(size - HEAD_SIZE))
        return Choice(name, dim // size, f"{dim} channels, head size {size}")
    if common % wanted:
        both = f"{dim} channels" if common == dim else f"dim {dim} and qk_dim {qk_dim}"
        what = f"{name} {wanted} does not divide {both}"
        near = nearest_divisor(common, wanted)
        fix = f"set `{name}: {near}`, or leave it out"
        raise ShapeError(what, site.path, fix, settings=((name, near), (name, "auto")))
    return given(name, wanted)


def nearest_divisor(number: int, wanted: int) -> int:
    """Return the divisor of a number that is nearest to the wanted one."""
    divisors = [divisor for divisor in range(1, number + 1) if number % divisor == 0]
    return min(divisors, key=lambda divisor: abs(divisor - wanted))


def same_shape(  # noqa: PLR0913 - what a blueprint is made of
    name: str,
    site: Site,
    inputs: Inputs,
    options: BaseModel,
    choices: Sequence[Choice],
    *,
    wants: Layout,
    adapt: bool,
) -> Blueprint:
    """Return how to make a module that gives a map of the shape that it is given.

    Args:
        name: Name of the catalogue's row.
        site: Where it goes.
        inputs: What the site is given.
        options: What the recipe sets.
        choices: What was decided; those without a reason are not reported.
        wants: The layout that the module takes.
        adapt: Whether a projection or pooling may be added.

    Raises:
        ShapeError: If the site gives something else, and nothing may be added, or nothing suffices.
    """
    kept = list(zip(inputs.maps, inputs.sizes, strict=True))
    return Blueprint(
        module=name,
        args=options.model_dump() | {choice.name: choice.value for choice in choices},
        layout=inputs.layout,
        wants=wants,
        ignores=inputs.ignores,
        adaptation=judge_output(site, inputs.layout, kept, adapt=adapt),
        choices=tuple(choice for choice in choices if choice.reason),
        keyword=inputs.keyword,
        repeats=inputs.repeats,
    )

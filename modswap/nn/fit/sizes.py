"""Choose the arguments of a catalogue module from the sizes of its site."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from pydantic import BaseModel

from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.errors import ShapeError
from modswap.core.seen.site import Layout, Site
from modswap.core.seen.values import TensorInfo
from modswap.nn.fit.inputs import MapInputs, Size, read_inputs
from modswap.nn.fit.outputs import judge_output

HEAD_CHANNELS = 32  # channels of a head where 32 divides them, as in most vision papers


def choose(name: str, wanted: Any, observed: Any, reason: str) -> Choice:
    """Return the recipe's value of an argument, or the observed value where that is None."""
    return Choice(name, observed, reason) if wanted is None else Choice(name, wanted, "")


def channels_of(site: Site, inputs: MapInputs, name: str, wanted: int | None) -> Choice:
    """Return the number of channels of the site's map, as an argument of the module.

    Args:
        site: The site.
        inputs: Its inputs.
        name: Name of the argument.
        wanted: The recipe's value; None: observed.

    Raises:
        ShapeError: If the recipe names another number than the site has.
    """
    channels = inputs.channels
    if wanted is not None and wanted != channels:
        what = f"{name} is {wanted}, the site is given {channels} channels: {inputs.maps[0]}"
        what += f" as {inputs.layout}; if its layout is another, set `layout:`"
        raise ShapeError(what, site.path, f"leave `{name}` out", settings=((name, "auto"),))
    return choose(name, wanted, channels, f"{channels} channels observed")


def heads_of(
    site: Site, name: str, wanted: int | None, dim: int, qk_dim: int | None = None
) -> Choice:
    """Return the number of attention heads.

    Args:
        site: The site.
        name: Name of the argument.
        wanted: The recipe's value; None: heads of about `HEAD_CHANNELS` channels.
        dim: Channels that the heads divide.
        qk_dim: Channels of queries and keys, where these differ.

    Raises:
        ShapeError: If the recipe's number does not divide them.
    """
    common = gcd(dim, qk_dim or dim)
    if wanted is not None and common % wanted:
        both = f"{dim} channels" if common == dim else f"dim {dim} and qk_dim {qk_dim}"
        what = f"{name} {wanted} does not divide {both}"
        near = nearest_divisor(common, wanted)
        fix = f"set `{name}: {near}`, or leave it out"
        raise ShapeError(what, site.path, fix, settings=((name, near), (name, "auto")))
    size = min((dim // heads for heads in divisors(common)), key=lambda s: abs(s - HEAD_CHANNELS))
    return choose(name, wanted, dim // size, f"{dim} channels, head size {size}")


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, smallest first."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def nearest_divisor(number: int, wanted: int) -> int:
    """Return the divisor of a number that is nearest to the wanted one."""
    return min(divisors(number), key=lambda divisor: abs(divisor - wanted))


@dataclass(frozen=True, slots=True)
class Draft:
    """A module with chosen arguments, before its output is compared with its site's."""

    name: str  # of the catalogue's row
    site: Site
    inputs: MapInputs
    options: BaseModel  # the recipe's
    choices: Sequence[Choice]  # a choice without a reason is not reported
    wants: Layout

    def blueprint(self, given: Sequence[tuple[TensorInfo, Size]], *, adapt: bool) -> Blueprint:
        """Return how to make the module; `given` as for `judge_output`.

        A site whose output changes, as its rule says, needs no adaptation.
        """
        site, layout = self.site, self.inputs.layout
        added = None if site.changes else judge_output(site, layout, given, adapt=adapt)
        return Blueprint(
            module=self.name,
            args=self.options.model_dump() | {part.name: part.value for part in self.choices},
            layout=self.inputs.layout,
            wants=self.wants,
            ignores=self.inputs.ignores,
            adaptation=added,
            choices=tuple(choice for choice in self.choices if choice.reason),
            keyword=self.inputs.keyword,
            repeats=self.inputs.repeats,
            drops=self.inputs.drops,
            grid=self.site.grid,
            changes=bool(self.site.changes),
        )


def same_shape(  # noqa: PLR0913 - rows of other packages call it
    name: str,
    site: Site,
    inputs: MapInputs,
    options: BaseModel,
    choices: Sequence[Choice],
    *,
    wants: Layout,
    adapt: bool,
) -> Blueprint:
    """Return how to make a module whose output has the shape of its input.

    Args:
        name: Name of the catalogue's row.
        site: The site.
        inputs: Its inputs.
        options: The recipe's options.
        choices: The chosen arguments; a choice without a reason is not reported.
        wants: The layout that the module takes.
        adapt: Whether the rule allows a projection or pooling behind the module.

    Raises:
        ShapeError: If the site's output is another, and no allowed adaptation suffices.
    """
    draft = Draft(name, site, inputs, options, choices, wants)
    return draft.blueprint(inputs.sized_maps, adapt=adapt)


def choose_heads(site: Site, inputs: MapInputs, options: Any) -> list[Choice]:
    """Return the option `num_heads` of a module whose heads divide the channels."""
    return [heads_of(site, "num_heads", options.num_heads, inputs.channels)]


def fit_channels(
    name: str,
    argument: str,
    more: Callable[[Site, MapInputs, Any], list[Choice]] = lambda *_: [],
    *,
    wants: Layout = "NCHW",
    any_length: bool = False,
) -> Callable[..., Blueprint]:
    """Return the `fit` of a row whose module keeps the shape of its input.

    The option `argument` is its channels, `more` chooses further arguments. The module takes the
    layout of the choice `layout`, where there is one, else `wants`. `any_length`: as in
    `read_inputs`.
    """

    def fit(site: Site, options: BaseModel, *, adapt: bool) -> Blueprint:
        inputs = read_inputs(site, any_length=any_length)
        channels = channels_of(site, inputs, argument, getattr(options, argument))
        choices = [channels, *more(site, inputs, options)]
        layout = next((choice.value for choice in choices if choice.name == "layout"), wants)
        return same_shape(name, site, inputs, options, choices, wants=layout, adapt=adapt)

    return fit

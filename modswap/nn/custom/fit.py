"""Fit a class that a recipe names as `package.module:Class` to a site."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.errors import RecipeError, ShapeError, together
from modswap.core.seen.site import Layout, Site, extent
from modswap.core.words.nearest import did_you_mean
from modswap.nn.catalogue.row import is_auto
from modswap.nn.custom.layout import Trial, find_layout
from modswap.nn.fit.inputs import called, read_layout, tensor_inputs
from modswap.nn.fit.outputs import map_given
from modswap.seeds import kept_random_state

CHANNELS = {
    *("dim", "channels", "in_channels", "in_planes", "inplanes", "in_chans", "in_dim", "c1"),
    *("num_channels", "num_features", "embed_dim", "hidden_size", "d_model", "in_features"),
}
OUT_CHANNELS = {"out_channels", "out_planes", "out_dim", "c2", "out_features"}
SIZES = {"height", "width", "input_resolution"}
OBSERVED = CHANNELS | OUT_CHANNELS | SIZES


def fit_custom(
    site: Site,
    cls: type[nn.Module],
    reference: str,
    args: Mapping[str, Any],
    *,
    adapt: bool,
    wants: Layout | None,
) -> Blueprint:
    """Return how to make a module of the user's own class for a site.

    Arguments that are left out or `auto` are taken from the site if their name is a usual name for
    channels or sizes. The layout `wants` is found by trying where it is None.

    Raises:
        RecipeError: If an argument is unknown, or needed and neither given nor observed.
        ShapeError: If the class refuses its arguments, or cannot be fitted to the site.
    """
    called(site)
    given = {name: value for name, value in args.items() if not is_auto(value)}
    signature = _signature(cls)
    _check_arguments(site, reference, signature, args)
    observed = _Observed(site, reference)
    left_open = [name for name in dict.fromkeys((*args, *signature.needed)) if name not in given]
    choices = [observed.choice(name) for name in left_open]
    complete = given | {choice.name: choice.value for choice in choices}
    module = _constructed(site, cls, reference, complete)
    found = find_layout(Trial(site, module, reference), wants, adapt=adapt)
    if found.reason:
        choices.append(Choice("wants", found.wants, found.reason))
    return Blueprint(
        module=reference,
        args=complete,
        layout=site.layout if found.wants else None,
        wants=found.wants,
        ignores=found.ignores,
        adaptation=found.adaptation,
        choices=tuple(choices),
        keyword=found.keyword,
        repeats=found.repeats,
        grid=site.grid,
        changes=site.changes,
    )


@dataclass(frozen=True, slots=True)
class _Signature:
    """The names of the keyword arguments of a constructor."""

    known: tuple[str, ...]
    needed: tuple[str, ...]  # without a default
    takes_more: bool  # whether any other name is taken as well


def _signature(cls: type[nn.Module]) -> _Signature:
    if cls.__init__ is nn.Module.__init__:
        return _Signature((), (), takes_more=False)
    parameters = inspect.signature(cls).parameters
    by_name = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
    }
    needed = tuple(n for n, parameter in by_name.items() if parameter.default is parameter.empty)
    takes_more = any(part.kind is part.VAR_KEYWORD for part in parameters.values())
    return _Signature(tuple(by_name), needed, takes_more)


def _check_arguments(
    site: Site, reference: str, signature: _Signature, args: Mapping[str, Any]
) -> None:
    """Refuse all arguments that are unknown, or missing and not observable."""
    errors = [
        *_unknown_arguments(site, reference, signature, args),
        *_missing_arguments(site, reference, signature, args),
    ]
    if errors:
        raise together(errors)


def _unknown_arguments(
    site: Site, reference: str, signature: _Signature, args: Mapping[str, Any]
) -> Iterator[RecipeError]:
    known = signature.known
    for name, value in args.items():
        if name not in known and not signature.takes_more:
            listed = f"it has {', '.join(known)}" if known else "it takes none"
            fix = did_you_mean(name, known) or listed
            yield RecipeError(f"{reference} has no argument {name!r}", site.path, fix)
        elif is_auto(value) and name not in OBSERVED:
            what = f"{name!r} of {reference} cannot be read from the site"
            yield RecipeError(what, site.path, f"give a value for `{name}` under `args`")


def _missing_arguments(
    site: Site, reference: str, signature: _Signature, args: Mapping[str, Any]
) -> Iterator[RecipeError]:
    for name in signature.needed:
        if name not in args and name not in OBSERVED:
            what = (
                f"{reference} needs {name!r}, which is not given and cannot be read from the site"
            )
            yield RecipeError(what, site.path, f"set `{name}` under `args`")


@dataclass(frozen=True, slots=True)
class _Observed:
    """The sizes of a site, by the usual names of a constructor's arguments."""

    site: Site
    reference: str  # the class, for errors

    def choice(self, name: str) -> Choice:
        """Return the observed value of an argument.

        Raises:
            ShapeError: If the site has no single value for it.
        """
        if name in CHANNELS:
            channels = self._channels()
            return Choice(name, channels, f"{channels} channels observed")
        if name in OUT_CHANNELS:
            channels = self._out_channels()
            return Choice(name, channels, f"{channels} output channels observed")
        height, width = self._size(name)
        value: Any = {"height": height, "width": width}.get(name, [height, width])
        return Choice(name, value, f"{height}x{width} observed")

    def _channels(self) -> int:
        maps = tensor_inputs(self.site)
        if all(len(tensor.shape) == 2 for tensor in maps):
            return maps[0].shape[1]
        _, sizes = read_layout(self.site, maps)
        return sizes[0].channels

    def _out_channels(self) -> int:
        tensor, _ = map_given(self.site.calls[0].output)
        if tensor is not None and len(tensor.shape) == 2:
            return tensor.shape[1]
        layout, _ = read_layout(self.site, tensor_inputs(self.site))
        seen = extent(tensor.shape, layout) if tensor is not None else None
        if seen is None:
            what = f"its output {self.site.calls[0].output} is no map, so its channels are unknown"
            raise ShapeError(what, self.site.path, "set them under `args`")
        return seen.channels

    def _size(self, name: str) -> tuple[int, int]:
        _, sizes = read_layout(self.site, tensor_inputs(self.site))
        seen = {(size.height, size.width) for size in sizes}
        height, width = next(iter(seen))
        if len(seen) > 1 or height is None or width is None:
            shown = ", ".join(map(str, tensor_inputs(self.site)))
            what = f"{self.reference} needs {name!r}, and the site has no single one: {shown}"
            raise ShapeError(what, self.site.path, f"set `{name}` under `args`")
        return height, width


def _constructed(
    site: Site, cls: type[nn.Module], reference: str, args: Mapping[str, Any]
) -> nn.Module:
    """Return a module for the trial, without a change of the global random state."""
    try:
        with kept_random_state():
            return cls(**args).eval()
    except Exception as error:  # noqa: BLE001 - a class of the user's may raise anything
        shown = ", ".join(f"{name}={value!r}" for name, value in args.items())
        text = " ".join(str(error).split())[:200]
        what = f"{reference}({shown}) raised {type(error).__name__}: {text}"
        raise ShapeError(what, site.path, "correct `args`") from None

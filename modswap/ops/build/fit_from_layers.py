"""Fit a module to a site from the sizes of its own layers, without a forward pass."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from modswap.core.asked.recipe import Rule
from modswap.core.decided.blueprint import Blueprint
from modswap.core.errors import ShapeError
from modswap.core.seen.site import Call, Layout, Site
from modswap.core.seen.values import TensorInfo
from modswap.io.formats.survey import FileSite
from modswap.nn.catalogue.row import Options, Replacement
from modswap.ops.build.fit import Fitter

# sides of made-up maps: one that most numbers divide, one that only powers of 2 do, a prime, a
# small one; a choice that differs between them was made by the size of a map that nobody knows
_SIDES = (5040, 4096, 5003, 30)
_PROBE = 7560  # channels
_TOLD = "as the old module's own layers have it"
_ANY = "whatever the size of the map"
_SHAPES: dict[Layout, Callable[[int, int], tuple[int, ...]]] = {
    "NCHW": lambda channels, side: (1, channels, side, side),
    "NHWC": lambda channels, side: (1, side, side, channels),
    "NLC": lambda channels, side: (1, side * side, channels),
}


def fit_from_layers(known: FileSite, fitter: Fitter) -> Blueprint:
    """Return the blueprint for a site of which only its own layers are known.

    Args:
        known: The site, with the sizes that its layers state.
        fitter: The rule and the module that it names. A class of the user's own is given the
            rule's arguments as they are.

    Raises:
        ShapeError: If the rule leaves open what only a forward pass could show.
    """
    rule = fitter.step.rule
    if fitter.cls is not None:
        layout = None if rule.layout == "auto" else rule.layout
        wants = None if rule.wants == "auto" else rule.wants
        return Blueprint(rule.with_, fitter.args, layout, wants)
    return _fit_row(known, rule, fitter.row, fitter.options)


def _fit_row(known: FileSite, rule: Rule, row: Replacement, options: Options) -> Blueprint:
    layout = _layout(known, rule)
    channels = _channels(known, rule, row)
    fitted = [
        row.fit(_made_up(known.site, layout, channels, side), options, adapt=False)
        for side in _SIDES
    ]
    first, *others = (one.args for one in fitted)
    open_ = [name for name in first if any(other[name] != first[name] for other in others)]
    if open_:
        what = f"{', '.join(open_)} would follow from the size of its map, which is not known"
        raise ShapeError(what, known.site.path, f"set `{open_[0]}` in the rule's args")
    named = set(_channel_options(row))
    # what a made-up map led to is the same for every map, or would have been refused
    choices = [
        replace(choice, reason=_TOLD if choice.name in named else _ANY)
        if choice.name in named or str(_SIDES[0]) in choice.reason
        else choice
        for choice in fitted[0].choices
    ]
    return replace(fitted[0], choices=tuple(choices))


def _layout(known: FileSite, rule: Rule) -> Layout:
    if rule.layout != "auto":
        return rule.layout
    if known.site.layout is not None:
        return known.site.layout
    what = "how its tensors lie cannot be told without a forward pass"
    raise ShapeError(what, known.site.path, "set `layout: NCHW`, NHWC or NLC in the rule")


def _channels(known: FileSite, rule: Rule, row: Replacement) -> int:
    names = list(_channel_options(row))
    given = next((rule.args[name] for name in names if isinstance(rule.args.get(name), int)), None)
    sizes = known.sizes
    if sizes is not None and (sizes.channels != sizes.gives or not sizes.keeps):
        what = f"it changes its map ({sizes.channels} to {sizes.gives} channels)"
        if sizes.channels == sizes.gives:
            what = "it changes the size of its map"
        fix = "only a swap with a forward pass can adapt to that: leave --no-forward out"
        raise ShapeError(what, known.site.path, fix)
    if sizes is not None:
        return sizes.channels
    if given is not None:
        return int(given)
    what = (
        f"its channels cannot be told from a {known.site.short_class or 'module of no known class'}"
    )
    raise ShapeError(what, known.site.path, f"set `{names[0]}` in the rule's args")


def _channel_options(row: Replacement) -> Iterator[str]:
    """Yield the names of the options that are a site's channels."""
    for layout in _SHAPES:
        try:
            site = _made_up(Site("probe", "Probe", layout=layout), layout, _PROBE, _SIDES[0])
            args: Mapping[str, Any] = row.fit(site, row.options(), adapt=False).args
        except ShapeError:
            continue  # it takes no such layout
        yield from (name for name, value in args.items() if value == _PROBE)
        return


def _made_up(site: Site, layout: Layout, channels: int, side: int) -> Site:
    """Return a site as if it had been seen to keep a map of this size."""
    seen = TensorInfo(_SHAPES[layout](channels, side), site.dtype)
    return replace(site, calls=(Call((seen,), (), seen),), layout=layout)

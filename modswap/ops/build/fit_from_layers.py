"""Fit a module to a site from the sizes of its own layers, without a forward pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from modswap.core.asked.rules.insert import Insert
from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.blueprint import Blueprint, Choice
from modswap.core.errors import ShapeError
from modswap.core.seen.site import ANY_SITE_LAYOUT, Call, Grid, Layout, Site
from modswap.core.seen.values import TensorInfo
from modswap.io.formats.survey import FileSite
from modswap.io.pickled.modules import Sizes
from modswap.nn.catalogue.row import Replacement
from modswap.ops.build.fit import Fitter

# sides of assumed maps: divisible by most numbers, by powers of 2 only, a prime, a small number;
# an argument that differs between them depends on the size of the map, which is unknown
_SIDES = (5040, 4096, 5003, 30)
_PROBE = 7560  # channels
_FROM_LAYERS = "as the old module's own layers have it"
_ANY_SIZE = "whatever the size of the map"
_SHAPES: dict[Layout, Callable[[int, int, int], tuple[int, ...]]] = {
    "NCHW": lambda channels, high, wide: (1, channels, high, wide),
    "NHWC": lambda channels, high, wide: (1, high, wide, channels),
    "NLC": lambda channels, high, wide: (1, high * wide, channels),
}


def fit_from_layers(known: FileSite, fitter: Fitter) -> Blueprint:
    """Return the blueprint for a site that is known from its own layers alone.

    A class of the user's own is given the rule's arguments as they are. A rule is refused if it
    leaves open an argument that only a forward pass shows.
    """
    rule = fitter.step.rule
    if fitter.cls is not None:
        layout = None if rule.layout == "auto" else rule.layout
        wants = None if rule.wants == "auto" else rule.wants
        return Blueprint(rule.with_, fitter.args, layout, wants)
    layout = _layout(known, rule)
    names = _channel_options(fitter.row)
    channels = _channels(known, rule, names)
    made_up = (_made_up(known.site, layout, channels, grid) for grid in _grids(rule))
    fitted = [fitter.row.fit(site, fitter.options, adapt=False) for site in made_up]
    _refuse_tokens(known.site, rule, fitted[0])
    if open_ := _differing(fitted):
        what = f"{', '.join(open_)} would follow from the size of its map, which is not known"
        raise ShapeError(what, known.site.path, f"set `{open_[0]}` in the rule's args")
    choices = tuple(_reworded(choice, names) for choice in fitted[0].choices)
    return replace(fitted[0], choices=choices, grid=rule.grid)


def _grids(rule: Rule | Insert) -> list[Grid]:
    """Return the heights and widths of maps that are assumed."""
    return [(side, side) for side in _SIDES] if rule.grid is None else [rule.grid]


def _refuse_tokens(site: Site, rule: Rule | Insert, blueprint: Blueprint) -> None:
    """Refuse to make a map of tokens where the rule does not say that they are one."""
    if blueprint.layout == "NLC" and blueprint.wants != "NLC" and rule.grid is None:
        what = f"{rule.with_} takes maps, and no pass shows whether the site's tokens are one"
        fix = "set `grid: [H, W]` in the rule, or leave --no-forward out"
        raise ShapeError(what, site.path, fix)


def _differing(fitted: Sequence[Blueprint]) -> list[str]:
    first, *others = (one.args for one in fitted)
    return [name for name in first if any(other[name] != first[name] for other in others)]


def _reworded(choice: Choice, named: Sequence[str]) -> Choice:
    """Return a choice without the assumed size in its reason, as any size gives the same."""
    if choice.name in named:
        return replace(choice, reason=_FROM_LAYERS)
    return replace(choice, reason=_ANY_SIZE) if str(_SIDES[0]) in choice.reason else choice


def _layout(known: FileSite, rule: Rule | Insert) -> Layout:
    if rule.layout != "auto":
        return rule.layout
    if known.site.layout is not None:
        return known.site.layout
    what = "the layout of its tensors is not known without a forward pass"
    fix = "set `layout: NCHW`, NHWC or NLC in the rule"
    raise ShapeError(what, known.site.path, fix, settings=ANY_SITE_LAYOUT)


def _channels(known: FileSite, rule: Rule | Insert, names: Sequence[str]) -> int:
    if known.sizes is not None:
        _refuse_change(known.site, known.sizes)
        return known.sizes.channels
    given = (rule.args.get(name) for name in names)
    if (channels := next((value for value in given if isinstance(value, int)), None)) is not None:
        return channels
    shown = known.site.short_class or "module of no known class"
    what = f"the number of its channels is not known from a {shown}"
    raise ShapeError(what, known.site.path, f"set `{names[0]}` in the rule's args")


def _refuse_change(site: Site, sizes: Sizes) -> None:
    """Refuse a site whose output has another size than its input."""
    if sizes.channels == sizes.gives and sizes.keeps:
        return
    what = "it changes the size of its map"
    if sizes.channels != sizes.gives:
        what = f"it changes its map ({sizes.channels} to {sizes.gives} channels)"
    fix = "only a swap with a forward pass can adapt to that: leave --no-forward out"
    raise ShapeError(what, site.path, fix)


def _channel_options(row: Replacement) -> list[str]:
    """Return the names of the options that are a site's channels."""
    for layout in _SHAPES:
        try:
            grid = _SIDES[0], _SIDES[0]
            site = _made_up(Site("probe", "Probe", layout=layout), layout, _PROBE, grid)
            args: Mapping[str, Any] = row.fit(site, row.options(), adapt=False).args
        except ShapeError:
            continue  # it takes no such layout
        return [name for name, value in args.items() if value == _PROBE]
    return []


def _made_up(site: Site, layout: Layout, channels: int, grid: Grid) -> Site:
    """Return the site with an assumed call that keeps a map of this size."""
    seen = TensorInfo(_SHAPES[layout](channels, *grid), site.dtype)
    tokens = grid if layout == "NLC" else None
    return replace(site, calls=(Call((seen,), (), seen),), layout=layout, grid=tokens)

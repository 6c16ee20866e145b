"""Find the layout that a user's own class takes, by trying it on shapes."""

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from torch import nn

from modswap.core.decided.blueprint import Adaptation
from modswap.core.decided.verdict import structure_fix
from modswap.core.errors import ShapeError
from modswap.core.finding import ADAPT, Settings
from modswap.core.seen.site import (
    ANY_LAYOUT,
    ANY_SITE_LAYOUT,
    LAYOUTS,
    Call,
    Extent,
    Layout,
    Site,
    extent,
)
from modswap.core.seen.values import Plain, TensorInfo, Value
from modswap.nn.adapters import SiteAdapter
from modswap.nn.custom.agreement import same_results
from modswap.nn.custom.probes import differ, is_like, probes
from modswap.nn.custom.trial import RefusedError, outputs_on
from modswap.nn.fit.further_inputs import cache_fix
from modswap.nn.fit.inputs import (
    Size,
    difference_note,
    dropped,
    first_map,
    is_off,
    keyword_of,
    read_layout,
    repeated,
    tensor_inputs,
    token_grid,
)
from modswap.nn.fit.outputs import (
    CHANGED,
    judge_output,
    map_given,
    other_channels,
    other_output,
)


class NotRunError(ShapeError):
    """The module does not run on its site's inputs in some layout."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A module that is tried at a site."""

    site: Site
    module: nn.Module  # in evaluation mode
    reference: str  # the class's name in the recipe


@dataclass(frozen=True, slots=True)
class Placement:
    """The way in which a module is put at its site."""

    wants: Layout | None  # None at a site of unknown layout
    reason: str = ""  # evidence for the layout; empty where the recipe names it
    ignores: tuple[str, ...] = ()  # None or false inputs that the module does not take
    keyword: str = ""  # the keyword of the map, where the module's own keyword differs
    adaptation: Adaptation | None = None
    # inputs that are the same tensor object as the map, and that the module does not take
    repeats: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()  # inputs of any value that are not passed on


def find_layout(trial: Trial, wants: Layout | None, *, adapt: bool) -> Placement:
    """Return the way in which a module is put at its site, after trying it on shapes alone.

    A layout counts if the module runs on the site's inputs and returns the site's outputs. A wrong
    layout also runs where channels, height and width are equal, so sizes that differ are tried as
    well. `wants` is the layout that the recipe names; None: found by trying.

    Raises:
        ShapeError: If the module runs in no layout, in several without evidence for one, or returns
            another output.
    """
    site = trial.site
    ignores, repeats, drops = _dropped(trial)
    start = Placement(wants, "", ignores, _keyword(trial), repeats=repeats, drops=drops)
    if site.changes:
        return _changed(trial, start)
    if site.layout is None and wants is None:
        return _as_it_comes(trial, start)
    layout, _ = read_layout(site, tensor_inputs(site))
    candidates = [wants] if wants else [layout, *(other for other in LAYOUTS if other != layout)]
    running, refusals = _tried(trial, start, candidates, adapt=adapt)
    if wants and running:
        return running[0]
    proved = _proved(trial, running)
    if proved:
        return _decided(trial, proved)
    if len(running) == 1:
        return replace(running[0], reason="the only layout in which it runs")
    raise _undecided(trial, running, refusals)


def _changed(trial: Trial, start: Placement) -> Placement:
    """Return the placement of a module whose output is another than its site's.

    The module takes its site's own layout, a linear layer the last axis.

    Raises:
        ShapeError: If more than the number of channels changes, and the rule does not say so.
    """
    wants = start.wants or trial.site.layout
    if wants == "NCHW" and start.wants is None and isinstance(trial.module, nn.Linear):
        wants = "NHWC"
    placement = replace(start, wants=wants)
    for call in trial.site.calls:
        output = _run(trial, placement, call)
        if trial.site.changes == "channels" and not other_channels(call.output, output):
            fix = "set its `args` so that the channels alone change, such as `padding`; or "
            fix += f"set {CHANGED} in its rule"
            raise other_output(trial.site, call, output, fix)
    return placement


def _proved(trial: Trial, running: Sequence[Placement]) -> list[Placement]:
    """Return the placements in which a module runs at a size that fits no other layout."""
    shown = [(placement, _evidence(trial, placement)) for placement in running]
    return [replace(placement, reason=reason) for placement, reason in shown if reason]


def _decided(trial: Trial, proved: Sequence[Placement]) -> Placement:
    """Return the placement of a module, of those in which it runs at sizes that differ.

    The site's own layout comes first. Tokens that the module takes as the old one did are decided;
    else another layout in which it runs as well must give the same results.

    Raises:
        ShapeError: If the results differ, or cannot be compared.
    """
    first, *others = proved
    others = [other for other in others if (other.adaptation is None) == (first.adaptation is None)]
    if not others or same_results(trial.site, trial.module, [_adapter(trial, p) for p in proved]):
        return first
    if trial.site.layout == first.wants == "NLC":
        also = f"as the old module did; it also runs as {_wanted(others)}, with other results"
        return replace(first, reason=f"{first.reason}, {also}")
    raise _ambiguous(trial, [first, *others])


def _ambiguous(trial: Trial, ways: Sequence[Placement]) -> ShapeError:
    shown = " and ".join(_given(trial, placement) for placement in ways)
    what = f"{trial.reference} runs on {shown}, with other results"
    return ShapeError(what, trial.site.path, _wants_fix(ways))


def _wanted(ways: Sequence[Placement]) -> str:
    return " and ".join(str(placement.wants) for placement in ways)


def _wants_fix(ways: Sequence[Placement]) -> str:
    named = " or ".join(f"`wants: {placement.wants}`" for placement in ways)
    return f"set {named} in its rule"


def _given(trial: Trial, placement: Placement) -> str:
    """Return in words the tensor that the module gets in a layout."""
    site, call = trial.site, trial.site.calls[0]
    _, tensor = first_map(site, call)
    _, (size, *_) = read_layout(site, tensor_inputs(site))
    batch, channels = tensor.shape[0], size.channels
    if placement.wants == "NLC":
        return f"({batch}, {size.tokens}, {channels}) as NLC"
    high, wide = size.height or 0, size.width or 0
    if site.layout == "NLC":
        high, wide = token_grid(site, call, size.tokens)
    shape = (channels, high, wide) if placement.wants == "NCHW" else (high, wide, channels)
    return f"{(batch, *shape)} as {placement.wants}"


def _adapter(trial: Trial, placement: Placement) -> Callable[[nn.Module], SiteAdapter]:
    """Return the function that puts a module into the adapter of its placement."""

    def around(module: nn.Module) -> SiteAdapter:
        return (
            SiteAdapter(
                module,
                layout=trial.site.layout if placement.wants else None,
                wants=placement.wants,
                ignores=placement.ignores,
                repeats=placement.repeats,
            )
            .of_grid(trial.site.grid)
            .without(placement.drops)
        )

    return around


def _tried(
    trial: Trial, start: Placement, candidates: Sequence[Layout], *, adapt: bool
) -> tuple[list[Placement], dict[Layout, ShapeError]]:
    """Return the placements that run, those without an adaptation first, and the refusals."""
    running: list[Placement] = []
    refusals: dict[Layout, ShapeError] = {}
    for candidate in candidates:
        placement = replace(start, wants=candidate)
        try:
            adaptation = _judge(trial, placement, adapt=adapt)
        except ShapeError as error:
            refusals[candidate] = error
        else:
            running.append(replace(placement, adaptation=adaptation))
    running.sort(key=lambda placement: placement.adaptation is not None)
    return running, refusals


def _undecided(
    trial: Trial, running: list[Placement], refusals: dict[Layout, ShapeError]
) -> ShapeError:
    shapes = " and ".join(dict.fromkeys(str(tensor) for tensor in tensor_inputs(trial.site)))
    if running:
        names = _wanted(running)
        what = f"{trial.reference} runs on {shapes} as {names} alike, and no tried size differs"
        return ShapeError(what, trial.site.path, _wants_fix(running))
    # refusals by other layouts do not matter where it runs in a layout
    ran = {name: error for name, error in refusals.items() if not isinstance(error, NotRunError)}
    shown = ran or refusals
    reasons: dict[str, list[str]] = {}
    for layout, error in shown.items():
        reasons.setdefault(error.what, []).append(layout)
    tried = "; ".join(f"as {' or '.join(names)}: {what}" for what, names in reasons.items())
    first = next(iter(shown.values()))
    return first.saying(f"{trial.reference} does not take {shapes}: {tried}")


def _as_it_comes(trial: Trial, placement: Placement) -> Placement:
    """Return the placement at a site of unknown layout, without a conversion."""
    given = tensor_inputs(trial.site)
    for call in trial.site.calls:
        output = _run(trial, placement, call)
        if output != call.output:
            fix, settings = structure_fix(call.output, output), Settings()
            if not fix and not any(len(tensor.shape) in {3, 4} for tensor in given):
                fix = "choose a class that gives the same shape"
            elif not fix:
                fix = "set `layout:` in its rule, and `adapt: true`"
                settings = ADAPT + ANY_SITE_LAYOUT
            error = other_output(trial.site, call, output, fix, settings)
            raise error.saying(f"{trial.reference}: {error.what}")
    return placement


def _run(trial: Trial, placement: Placement, call: Call) -> Value:
    """Return the output of the module at its site, in the site's layout."""
    around = _adapter(trial, placement)
    try:
        return outputs_on(around(trial.module), call, trial.site.dtype)
    except RefusedError as error:
        if error.fix:
            raise NotRunError(error.what, trial.site.path, error.fix) from None
        fix = "choose a class that takes it, or set `layout:` or `wants:` in its rule"
        raise NotRunError(error.what, trial.site.path, fix, settings=ANY_LAYOUT) from None


def _judge(trial: Trial, placement: Placement, *, adapt: bool) -> Adaptation | None:
    """Return the adaptation that the module needs in a layout; None for none."""
    site = trial.site
    layout, sizes = read_layout(site, tensor_inputs(site))
    if layout == "NLC" and placement.wants != "NLC":
        _check_grids(site, sizes)
    outputs = [_run(trial, placement, call) for call in site.calls]
    if all(call.output == output for call, output in zip(site.calls, outputs, strict=True)):
        return None
    given = [
        _sized(site, call, output, size)
        for call, output, size in zip(site.calls, outputs, sizes, strict=True)
    ]
    return judge_output(site, layout, given, adapt=adapt)


def _sized(site: Site, call: Call, output: Value, size: Extent) -> tuple[TensorInfo, Size]:
    """Return a module's map and its size; refuse an output that is no map of the site's layout."""
    if isinstance(output, TensorInfo) and site.layout:
        seen = extent(output.shape, site.layout)
        if seen is not None:
            same = size.height if seen.tokens == size.tokens else None
            height = seen.height or same or seen.tokens
            return output, Size(seen.channels, height, seen.tokens // height)
    fix = structure_fix(call.output, output) or "choose a class that gives the same shape"
    raise other_output(site, call, output, fix)


def _check_grids(site: Site, sizes: Sequence[Extent]) -> None:
    """Refuse tokens that make no map."""
    for call, size in zip(site.calls, sizes, strict=True):
        try:
            token_grid(site, call, size.tokens)
        except ShapeError as error:
            raise NotRunError(error.what, error.where, error.fix, settings=error.settings) from None


def _evidence(trial: Trial, placement: Placement) -> str:
    """Return in words the size at which no other layout would run; empty if there is none."""
    site = trial.site
    layout, _ = read_layout(site, tensor_inputs(site))
    for tensor in tensor_inputs(site):
        if differ(tensor, layout):
            return f"found by trying: it runs on {tensor} as {placement.wants}"
    # a rule with a grid says the only size
    for call in probes(site, layout) if site.grid is None else ():
        try:
            output, _ = map_given(_run(trial, placement, call))
        except ShapeError:
            continue
        _, probe = first_map(site, call)
        if output is not None and is_like(site, layout, probe, output):
            return f"found by trying: it runs on {probe} as {placement.wants}"
    return ""


def _dropped(trial: Trial) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the inputs that the module does not take.

    Those are None or false, or repeat the map, or are any that the rule or the old module drops.
    """
    signature = inspect.signature(trial.module.forward)
    site, calls = trial.site, trial.site.calls
    carriers = [first_map(site, call)[0] for call in calls]
    named = [item for call in calls for item in call.named]
    needed = {name for name, value in named if not is_off(value)}
    off = {name for name, value in named if is_off(value)} - {*carriers}
    again = repeated(site, carriers)
    drops = dropped(site)
    for gone in (drops,) if site.carrier else dict.fromkeys([(), drops]):
        ways: list[tuple[set[str], tuple[str, ...]]] = [(set(), ())]
        if not off & (needed - {*gone}):
            ways += [(off, ()), (off, tuple(name for name in again if name not in gone))]
        for ignores, repeats in ways:
            without = {*ignores, *repeats, *gone}
            if all(_binds(site, signature, call, without) for call in calls):
                return tuple(sorted(ignores)), repeats, gone
    raise _unbound(trial, signature, again)


def _unbound(trial: Trial, signature: inspect.Signature, again: Sequence[str]) -> ShapeError:
    """Return the error of a module whose signature does not fit a call of its site."""
    site = trial.site
    call = next(call for call in site.calls if not _binds(site, signature, call, ()))
    carrier, _ = first_map(site, call)
    others = [name for name, _ in call.named if name != carrier and name not in again]
    note = next(filter(None, (difference_note(call, carrier, name) for name in others)), "")
    what = f"{trial.reference} takes {signature}, the site is called as {call}{note}"
    cached = next(filter(None, map(cache_fix, call.inputs)), "")
    names = ", ".join(("self", *site.names))
    own = f", as the old module's `forward({names})`" if site.names else ""
    fix = cached or f"choose a class whose forward takes the inputs of the site{own}"
    if not cached and any(isinstance(value, TensorInfo) for _, value in call.named[1:]):
        fix += f"; `input: {carrier}` in the rule uses that one alone"
    return ShapeError(what, site.path, fix)


def _binds(site: Site, signature: inspect.Signature, call: Call, without: Collection[str]) -> bool:
    """Return whether a forward takes a call, its map by position, without some inputs."""
    carrier, _ = first_map(site, call)
    named = [(name, v) for name, v in call.named if name != carrier and name not in without]
    by_position = [value for name, value in named if name.isdigit()]
    by_name = {name: value for name, value in named if not name.isdigit()}
    try:
        signature.bind(Plain("", ""), *by_position, **by_name)
    except TypeError:
        return False
    return True


def _keyword(trial: Trial) -> str:
    """Return the keyword that carries the map; empty if it is the module's first input."""
    keyword = keyword_of([first_map(trial.site, call) for call in trial.site.calls])
    names = list(inspect.signature(trial.module.forward).parameters)
    return "" if names[:1] == [keyword] else keyword

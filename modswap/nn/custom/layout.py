"""Finding out by trying which layout a class of the user's own takes."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isqrt

from torch import nn

from modswap.core.decided.blueprint import Adaptation
from modswap.core.decided.verdict import structure_fix
from modswap.core.errors import ShapeError
from modswap.core.finding import ADAPT, Settings
from modswap.core.seen.site import (
    ANY_LAYOUT,
    ANY_MODULE_LAYOUT,
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
from modswap.nn.custom.trial import RefusedError, give
from modswap.nn.fit.inputs import (
    Size,
    cache_fix,
    first_map,
    is_off,
    judge_output,
    keyword_of,
    map_given,
    mismatch,
    read_layout,
    repeated,
    tensor_inputs,
    token_grid,
    token_row,
    told_apart,
)

FACTORS = ((2, 1), (1, 2), (2, 4), (4, 2), (2, 3), (3, 2), (4, 6), (3, 5))
PROBES = 4  # at most so many further sizes are tried


class NotRunError(ShapeError):
    """The module does not run on what its site is given, in some layout."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried.

    Args:
        site: The site.
        module: A module of the class, in evaluation mode.
        reference: How the recipe names the class.
    """

    site: Site
    module: nn.Module
    reference: str


@dataclass(frozen=True, slots=True)
class Found:
    """How a module is put at its site.

    Args:
        wants: The layout that it takes; None where the site's is unknown and it takes what comes.
        reason: What told it; empty where the recipe said so.
        ignores: Inputs that say nothing, and that it is not given.
        repeats: Inputs that are the map's very tensor, likewise.
        keyword: Keyword that carries the map, where the module does not know it by that name.
        adaptation: What has to be added behind it.
    """

    wants: Layout | None
    reason: str = ""
    ignores: tuple[str, ...] = ()
    keyword: str = ""
    adaptation: Adaptation | None = None
    repeats: tuple[str, ...] = ()


def find_layout(trial: Trial, wants: Layout | None, *, adapt: bool) -> Found:
    """Return how a module is put at its site, having tried it on shapes alone.

    A layout counts if the module runs on what the site was given, and gives what the site gave. As
    a wrong layout can run unnoticed where channels, height and width are equal, sizes that differ
    are tried as well.

    Args:
        trial: What is tried.
        wants: The layout that the recipe names; None: found by trying.
        adapt: Whether a projection or pooling may be added.

    Raises:
        ShapeError: If it runs in no layout, if several run alike, or if it gives something else.
    """
    site = trial.site
    ignores, repeats = _dropped(trial)
    found = Found(wants, "", ignores, _keyword(trial), repeats=repeats)
    if site.layout is None and wants is None:
        return _as_it_comes(trial, found)
    layout, _ = read_layout(site, tensor_inputs(site))
    candidates = [wants] if wants else [layout, *(one for one in LAYOUTS if one != layout)]
    refusals: dict[Layout, ShapeError] = {}
    running: list[Found] = []
    for candidate in candidates:
        try:
            adaptation = _judge(trial, replace(found, wants=candidate), adapt=adapt)
        except ShapeError as error:
            refusals[candidate] = error
            continue
        running.append(replace(found, wants=candidate, adaptation=adaptation))
    # what gives the site's output as it is goes before what needs something added
    running.sort(key=lambda one: one.adaptation is not None)
    if wants and running:
        return running[0]
    for one in running:
        told = _telling(trial, one)
        if told:
            return replace(one, reason=told)
    if len(running) == 1:
        return replace(running[0], reason="the only layout in which it runs")
    raise _undecided(trial, running, refusals)


def _undecided(
    trial: Trial, running: list[Found], refusals: dict[Layout, ShapeError]
) -> ShapeError:
    shapes = " and ".join(dict.fromkeys(str(tensor) for tensor in tensor_inputs(trial.site)))
    if running:
        names = " and ".join(str(one.wants) for one in running)
        what = (
            f"{trial.reference} runs on {shapes} as {names} alike, and on no size that would tell"
        )
        return ShapeError(
            what, trial.site.path, "set `wants:` in its rule", settings=ANY_MODULE_LAYOUT
        )
    # where it ran in some layout, what the others refuse does not matter
    ran = {one: error for one, error in refusals.items() if not isinstance(error, NotRunError)}
    told = ran or refusals
    reasons: dict[str, list[str]] = {}
    for layout, error in told.items():
        reasons.setdefault(error.what, []).append(layout)
    tried = "; ".join(f"as {' or '.join(names)}: {what}" for what, names in reasons.items())
    first = next(iter(told.values()))
    what = f"{trial.reference} does not take {shapes}: {tried}"
    return ShapeError(what, trial.site.path, first.fix, settings=first.settings)


def _as_it_comes(trial: Trial, found: Found) -> Found:
    """Return how a module is put at a site of unknown layout: only as it is."""
    for call in trial.site.calls:
        output = _run(trial, found, call)
        if output != call.output:
            what = f"{trial.reference}: {mismatch(call, output)}"
            fix, settings = structure_fix(call.output, output), Settings()
            if not fix:
                fix = "set `layout:` in its rule, and `adapt: true`"
                settings = ADAPT + ANY_SITE_LAYOUT
            raise ShapeError(what, trial.site.path, fix, settings=settings)
    return found


def _run(trial: Trial, found: Found, call: Call) -> Value:
    """Return what the module gives at its site, in the site's layout."""
    layout = trial.site.layout if found.wants else None
    around = SiteAdapter(
        trial.module,
        layout=layout,
        wants=found.wants,
        ignores=found.ignores,
        repeats=found.repeats,
    )
    try:
        return give(around, call, trial.site.dtype)
    except RefusedError as error:
        if error.fix:
            raise NotRunError(error.what, trial.site.path, error.fix) from None
        fix = "choose a class that takes it, or set `layout:` or `wants:` in its rule"
        raise NotRunError(error.what, trial.site.path, fix, settings=ANY_LAYOUT) from None


def _judge(trial: Trial, found: Found, *, adapt: bool) -> Adaptation | None:
    """Return what has to be added where the module runs in a layout.

    Raises:
        ShapeError: If it does not run, or gives what cannot be made into the site's output.
    """
    site = trial.site
    layout, sizes = read_layout(site, tensor_inputs(site))
    if layout == "NLC" and found.wants != "NLC":
        _check_grids(site, sizes)
    outputs = [_run(trial, found, call) for call in site.calls]
    if all(call.output == output for call, output in zip(site.calls, outputs, strict=True)):
        return None
    given: list[tuple[TensorInfo, Size]] = []
    for call, output, size in zip(site.calls, outputs, sizes, strict=True):
        seen = extent(output.shape, layout) if isinstance(output, TensorInfo) else None
        if seen is None or not isinstance(output, TensorInfo):
            fix = structure_fix(call.output, output) or "choose a class that gives the same"
            raise ShapeError(mismatch(call, output), site.path, fix)
        same = seen.tokens == size.tokens
        height = seen.height or (size.height if same else None) or token_row(seen.tokens)[0]
        given.append((output, Size(seen.channels, height, seen.tokens // height)))
    return judge_output(site, layout, given, adapt=adapt)


def _check_grids(site: Site, sizes: Sequence[Extent]) -> None:
    for call, size in zip(site.calls, sizes, strict=True):
        try:
            token_grid(site, call, size.tokens)
        except ShapeError as error:
            raise NotRunError(error.what, error.where, error.fix, settings=error.settings) from None


def _telling(trial: Trial, found: Found) -> str:
    """Return what shows that a layout is the module's own, or nothing."""
    site = trial.site
    layout, _ = read_layout(site, tensor_inputs(site))
    for tensor in tensor_inputs(site):
        if _differ(tensor, layout):
            return f"found by trying: it runs on {tensor} as {found.wants}"
    for call in _probes(site, layout):
        try:
            output, _ = map_given(_run(trial, found, call))
        except ShapeError:
            continue
        _, probe = first_map(site, call)
        if output is not None and _is_like(site, layout, probe, output):
            return f"found by trying: it runs on {probe} as {found.wants}"
    return ""


def _differ(tensor: TensorInfo, layout: Layout) -> bool:
    """Return whether no side of a map is as long as its channels are many."""
    first, second, third, *_ = (*tensor.shape[1:], 0)
    match layout:
        case "NCHW":
            return first not in {second, third}
        case "NHWC":
            return third not in {first, second}
    return second not in {first, isqrt(first)}


def _probes(site: Site, layout: Layout) -> Iterator[Call]:
    """Yield the site's first call at sizes whose channels, height and width all differ."""
    call = site.calls[0]
    name, tensor = first_map(site, call)
    made = 0
    for tall, wide in FACTORS:
        shape = list(tensor.shape)
        first = 2 if layout == "NCHW" else 1
        if layout == "NLC":
            shape[1] *= (tall * wide) ** 2
        else:
            shape[first], shape[first + 1] = shape[first] * tall, shape[first + 1] * wide
        probe = replace(tensor, shape=tuple(shape))
        probed = {name, *call.repeats(name)}
        even = layout != "NLC" and shape[first] == shape[first + 1]
        if _differ(probe, layout) and not even and made < PROBES:
            made += 1
            args = tuple(
                probe if str(position) in probed else value
                for position, value in enumerate(call.args)
            )
            kwargs = tuple((key, probe if key in probed else value) for key, value in call.kwargs)
            yield replace(call, args=args, kwargs=kwargs)


def _is_like(site: Site, layout: Layout, probe: TensorInfo, output: TensorInfo) -> bool:
    """Return whether the output at another size is to its input what the site's is."""
    before, _ = map_given(site.calls[0].output)
    _, given = first_map(site, site.calls[0])
    if before is not None and before.shape == given.shape:
        return output.shape == probe.shape
    seen = extent(output.shape, layout)
    wanted = extent(before.shape, layout) if before is not None else None
    return seen is not None and wanted is not None and seen.channels == wanted.channels


def _dropped(trial: Trial) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return inputs that say nothing, and repeat the map, unless the module takes them all.

    Raises:
        ShapeError: If it does not take what is left either.
    """
    signature = inspect.signature(trial.module.forward)
    site, calls = trial.site, trial.site.calls
    carriers = [first_map(site, call)[0] for call in calls]
    silent = {n for call in calls for n, value in call.named if is_off(value)} - {*carriers}
    told = {n for call in calls for n, value in call.named if not is_off(value)}
    again = repeated(site, carriers)
    ways: list[tuple[set[str], tuple[str, ...]]] = [(set(), ()), (silent, ()), (silent, again)]
    for ignores, repeats in ways:
        without = {*ignores, *repeats}
        if not ignores & told and all(_binds(site, signature, call, without) for call in calls):
            return tuple(sorted(ignores)), repeats
    call = next(call for call in calls if not _binds(site, signature, call, set()))
    carrier, _ = first_map(site, call)
    others = [name for name, _ in call.named if name != carrier and name not in again]
    apart = next(filter(None, (told_apart(call, carrier, name) for name in others)), "")
    what = f"{trial.reference} takes {signature}, the site is called as {call}{apart}"
    cached = next(filter(None, map(cache_fix, call.inputs)), "")
    fix = cached or "choose a class whose forward takes what the site is given"
    raise ShapeError(what, trial.site.path, fix)


def _binds(site: Site, signature: inspect.Signature, call: Call, without: set[str]) -> bool:
    """Return whether a forward takes a call, its map by position, some inputs left out."""
    carrier, _ = first_map(site, call)
    named = [(name, v) for name, v in call.named if name not in without | {carrier}]
    by_position = [value for name, value in named if name.isdigit()]
    by_name = {name: value for name, value in named if not name.isdigit()}
    try:
        signature.bind(Plain("", ""), *by_position, **by_name)
    except TypeError:
        return False
    return True


def _keyword(trial: Trial) -> str:
    """Return the keyword that carries the map, if the module's first input has another name."""
    keyword = keyword_of([first_map(trial.site, call) for call in trial.site.calls])
    names = list(inspect.signature(trial.module.forward).parameters)
    return "" if names[:1] == [keyword] else keyword

"""Find the maps from which a site's tokens come."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from modswap.core.decided.plan import Plan, Step
from modswap.core.decided.verdict import Visit
from modswap.core.seen.layout import Clue
from modswap.core.seen.site import Call, Site
from modswap.core.seen.values import TensorInfo
from modswap.ops.run.inputs import Case
from modswap.ops.trace.passes import Trace, trace


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps (N, C, H, W) that layers of known layout returned in one pass."""

    # turn and visit of each map, by its shape
    given: Mapping[tuple[int, ...], Sequence[tuple[int, Visit]]]
    turns: Mapping[str, int]  # the turn at which each module first ended


def maps_of(visits: Sequence[Visit], clues: Sequence[Clue]) -> Maps:
    """Return the maps of a pass from all its calls, in order, and its layers of known layout."""
    known = {clue.path for clue in clues if clue.layout == "NCHW"}
    turns: dict[str, int] = {}
    given: dict[tuple[int, ...], list[tuple[int, Visit]]] = {}
    for turn, visit in enumerate(visits):
        turns.setdefault(visit.path, turn)
        output = visit.call.output
        if visit.path in known and isinstance(output, TensorInfo) and len(output.shape) == 4:
            given.setdefault(output.shape, []).append((turn, visit))
    return Maps(given, turns)


def grids_of(site: Site, passes: Sequence[Maps]) -> tuple[tuple[int, int], ...]:
    """Return the heights and widths of earlier maps with as many samples and channels as a site.

    There are none unless the site takes tokens.
    """
    seen = site.input
    if seen is None or len(seen.shape) != 3:
        return ()
    wanted = (seen.shape[0], seen.shape[2])
    found: dict[tuple[int, int], None] = {}
    for maps in passes:
        end = maps.turns.get(site.path, 0)
        firsts = (
            (_first_outside(site.path, visits), shape)
            for shape, visits in maps.given.items()
            if shape[:2] == wanted
        )
        earlier = [shape for turn, shape in sorted(firsts) if turn < end]
        found.update(dict.fromkeys((shape[2], shape[3]) for shape in earlier))
    return tuple(found)


def _first_outside(path: str, visits: Sequence[tuple[int, Visit]]) -> int:
    """Return the turn of the first visit that is not inside a module; beyond all if none is."""
    outside = (turn for turn, visit in visits if not visit.inside((path,)))
    return next(outside, sys.maxsize)


def with_grids(
    model: nn.Module, plan: Plan, cases: Sequence[Case], *, seed: int, unreal: bool
) -> Plan:
    """Return a plan whose sites know which of their tokens are maps that were flattened.

    A model in which no site takes tokens is not run.

    Args:
        model: The model, as the sites of the plan were seen in it.
        plan: The plan.
        cases: The passes that reached the sites.
        seed: Seed of the passes.
        unreal: Whether the passes run on tensors without data; others try that first.
    """
    sites = [site for step in plan.steps for site in step.sites]
    if not any(map(_takes_tokens, sites)):
        return plan
    found: dict[str, list[Call]] = {}
    for case in cases:
        for visit in _followed(model, case, seed, unreal=unreal).seen.visits:
            found.setdefault(visit.path, []).append(visit.call)
    return Plan(tuple(_informed(step, found) for step in plan.steps))


def _followed(model: nn.Module, case: Case, seed: int, *, unreal: bool) -> Trace:
    """Return the trace of a pass that follows grids, on real tensors if others do not suffice."""
    one = trace(model, case, seed=seed, unreal=True, grids=True)
    if one.cause is None or unreal:
        return one
    return trace(model, case, seed=seed, grids=True)


def _informed(step: Step, calls: Mapping[str, Sequence[Call]]) -> Step:
    return replace(step, sites=tuple(_known(s, calls.get(s.path, ())) for s in step.sites))


def _known(site: Site, calls: Sequence[Call]) -> Site:
    """Return a site with the grids of the same calls of another pass."""
    if len(calls) != len(site.calls):
        return site
    pairs = zip(site.calls, calls, strict=True)
    informed = (replace(one, grids=other.grids, windows=other.windows) for one, other in pairs)
    return replace(site, calls=tuple(informed))


def _takes_tokens(site: Site) -> bool:
    """Return whether a site takes tokens, or maps whose channels come last: windows may be both."""
    axes = {len(v.shape) for call in site.calls for v in call.inputs if isinstance(v, TensorInfo)}
    return 3 in axes or (4 in axes and site.layout != "NCHW")

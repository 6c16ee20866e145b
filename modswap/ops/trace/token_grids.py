"""Find the maps from which a site's tokens may come: maps that were computed before it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modswap.core.decided.verdict import Visit
from modswap.core.seen.layout import Clue
from modswap.core.seen.site import Site
from modswap.core.seen.values import TensorInfo


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

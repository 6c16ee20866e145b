"""Find the maps from which a site's tokens may come: maps that were computed before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modswap.core.decided.verdict import Visit
from modswap.core.seen.layout import Clue
from modswap.core.seen.site import Site
from modswap.core.seen.values import TensorInfo


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps (N, C, H, W) that layers of known layout returned in one pass."""

    given: Sequence[tuple[int, Visit, tuple[int, ...]]]  # turn, visit and shape of each map
    turns: Mapping[str, int]  # the turn at which each module first ended


def maps_of(visits: Sequence[Visit], clues: Sequence[Clue]) -> Maps:
    """Return the maps of a pass from all its calls, in order, and its layers of known layout."""
    known = {clue.path for clue in clues if clue.layout == "NCHW"}
    turns: dict[str, int] = {}
    given: list[tuple[int, Visit, tuple[int, ...]]] = []
    for turn, visit in enumerate(visits):
        turns.setdefault(visit.path, turn)
        output = visit.call.output
        if visit.path in known and isinstance(output, TensorInfo) and len(output.shape) == 4:
            given.append((turn, visit, output.shape))
    return Maps(given, turns)


def grids_of(site: Site, passes: Sequence[Maps]) -> tuple[tuple[int, int], ...]:
    """Return the heights and widths of earlier maps with as many samples and channels as a site.

    There are none unless the site takes tokens.
    """
    seen = site.input
    if seen is None or len(seen.shape) != 3:
        return ()
    wanted = (seen.shape[0], seen.shape[2])
    found = (
        (shape[2], shape[3])
        for maps in passes
        for turn, visit, shape in maps.given
        if shape[:2] == wanted
        and turn < maps.turns.get(site.path, 0)
        and not visit.inside((site.path,))
    )
    return tuple(dict.fromkeys(found))

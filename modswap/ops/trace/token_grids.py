"""Which maps a site's tokens may come from: those that were seen before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modswap.core.decided.verdict import Visit
from modswap.core.seen.layout import Clue
from modswap.core.seen.site import Site
from modswap.core.seen.values import TensorInfo


@dataclass(frozen=True, slots=True)
class Maps:
    """What layers of known convention gave in one pass: maps (N, C, H, W), each with its turn.

    Args:
        given: Turn, visit and shape of each.
        turns: When each module ended first.
    """

    given: Sequence[tuple[int, Visit, tuple[int, ...]]]
    turns: Mapping[str, int]


def maps_of(visits: Sequence[Visit], clues: Sequence[Clue]) -> Maps:
    """Return the maps that were seen in a pass.

    Args:
        visits: All calls, in order.
        clues: Layers of known convention.
    """
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
    """Return heights and widths of maps before a site, of its samples and channels.

    Args:
        site: The site; one that is not given tokens has none.
        passes: What each pass showed.
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

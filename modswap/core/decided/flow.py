"""The flow of tensors around a module: which modules made its inputs, and which took its output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modswap.core.decided.verdict import Visit
from modswap.core.seen.values import tensors

MAX_NEIGHBOURS = 4  # on either side


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A module from which a tensor comes, or to which it goes.

    Args:
        path: Dotted name of the module; empty for the model itself.
        inside: Whether it is the module around the site, whose own operations gave or took the
            tensor.
        beside: The module that it called last before the site, or next after it; empty for none.
    """

    path: str
    inside: bool = False
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """The first call of a module in a pass.

    Args:
        path: Dotted name of the module.
        inputs: Its inputs in words.
        output: Its output in words.
        sources: The modules that made its inputs.
        targets: The modules that took its output.
    """

    path: str
    inputs: str
    output: str
    sources: tuple[Neighbour, ...]
    targets: tuple[Neighbour, ...]


def flows_of(visits: Sequence[Visit], paths: Sequence[str]) -> tuple[Flow, ...]:
    """Return the flow around each of some modules, of those that a pass reached."""
    wanted = dict.fromkeys(paths)
    firsts: dict[str, Visit] = {}
    for visit in visits:
        if visit.path in wanted:
            firsts.setdefault(visit.path, visit)
    takers: dict[str, list[Visit]] = {path: [] for path in firsts}
    for visit in visits:
        for source in visit.takes:
            if source in takers and source != visit.path:
                takers[source].append(visit)
    calls: dict[tuple[str, ...], list[Visit]] = {}
    for visit in visits:
        calls.setdefault(visit.around, []).append(visit)
    found = [firsts[path] for path in wanted if path in firsts]
    return tuple(_flow(visit, takers[visit.path], calls[visit.around]) for visit in found)


def _flow(visit: Visit, takers: Sequence[Visit], calls: Sequence[Visit]) -> Flow:
    """Return the flow of a visit; `calls` are those of the module around it, in their order."""
    around = visit.around[-1] if visit.around else ""
    at = next(number for number, one in enumerate(calls) if one is visit)
    earlier = calls[at - 1].path if at else ""
    later = calls[at + 1].path if at + 1 < len(calls) else ""
    sources = [Neighbour(path) for path in dict.fromkeys(visit.takes)]
    given = sum(1 for value in visit.call.inputs for _ in tensors(value))
    if len(visit.takes) < given or not sources:
        sources.append(Neighbour(around, inside=True, beside=earlier))
    targets = [Neighbour(path) for path in dict.fromkeys(_outermost(takers))]
    inside = Neighbour(around, inside=True, beside=later)
    return Flow(
        visit.path,
        ", ".join(map(str, visit.call.inputs)),
        str(visit.call.output),
        tuple(sources[:MAX_NEIGHBOURS]),
        tuple(targets[:MAX_NEIGHBOURS]) or (inside,),
    )


def _outermost(visits: Sequence[Visit]) -> Iterator[str]:
    """Yield the paths of visits that are in none of the others."""
    paths = {visit.path for visit in visits}
    for visit in visits:
        if not visit.inside(paths):
            yield visit.path


def edges_of(visits: Sequence[Visit]) -> tuple[tuple[str, str], ...]:
    """Return pairs of innermost modules, of which the second took a tensor that the first made.

    Where a module that holds others made or took it, the last of them made it, or the first took
    it.
    """
    holding = {path for visit in visits for path in visit.around}
    firsts: dict[str, str] = {}  # the innermost module that ran first in each module
    for visit in visits:
        if visit.path not in holding:
            firsts |= {around: visit.path for around in visit.around if around not in firsts}
    edges: dict[tuple[str, str], None] = {}
    last: dict[str, str] = {}  # the innermost module that ran last in each module
    for visit in visits:
        taker = firsts.get(visit.path, visit.path)
        makers = (last.get(source, source) for source in visit.takes)
        edges |= {(maker, taker): None for maker in makers if maker != taker}
        if visit.path not in holding:
            last |= dict.fromkeys((visit.path, *visit.around), visit.path)
    return tuple(edges)

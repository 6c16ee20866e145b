"""Finding the layout of a site's tensors from the modules around it, never from sizes alone."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modswap.core.seen.site import Layout

# of one-dimensional convolutions, and of attention without `batch_first`
OTHER_LAYOUTS = ("NCL", "LNC")


@dataclass(frozen=True, slots=True)
class Clue:
    """A module of known layout that ran in the trace."""

    path: str
    kind: str  # its class name
    layout: str  # the layout that its kind takes; `NCL` for one-dimensional convolutions
    shape: tuple[int, ...]  # shape of its input or output

    @property
    def rank(self) -> int:
        """Return the number of axes of its tensor."""
        return len(self.shape)

    @property
    def channels(self) -> int:
        """Return the number of channels of its tensors."""
        return self.shape[self.layout.index("C")]


class KnownLayers:
    """The modules of known layout of a trace, by the modules that they are in."""

    def __init__(self, clues: Iterable[Clue]) -> None:
        self._inside: dict[tuple[str, int], dict[tuple[str, int], Counter[str]]] = {}
        alike = Counter((c.path, c.kind, c.layout, c.rank, c.channels) for c in clues)
        for (path, kind, layout, rank, channels), count in alike.items():
            for around in _upwards(path):
                groups = self._inside.setdefault((around, rank), {})
                groups.setdefault((layout, channels), Counter())[kind] += count
        self._layouts = {layout for _, _, layout, _, _ in alike}

    def of_rank(self, rank: int) -> dict[str, Counter[str]]:
        """Return the kinds of all layers that took tensors of a rank, by layout."""
        found: dict[str, Counter[str]] = {}
        for (layout, _), kinds in self._inside.get(("", rank), {}).items():
            found.setdefault(layout, Counter()).update(kinds)
        return found

    def nearest(self, path: str, shape: tuple[int, ...]) -> tuple[str, dict[str, Counter[str]]]:
        """Return the smallest module around a site with layers that took tensors like the site's.

        Also return their kinds, by layout; none if no layer did. Like it are tensors with as many
        channels: windows that were cut out of a map may have as many axes as the map in another
        layout.
        """
        found = ((around, self._fitting(around, shape)) for around in _upwards(path))
        return next((one for one in found if one[1]), ("", {}))

    def _fitting(self, around: str, shape: tuple[int, ...]) -> dict[str, Counter[str]]:
        groups = self._inside.get((around, len(shape)))
        if groups is None:
            return {}
        known = (layout for layout in self._layouts if len(layout) == len(shape))
        keys = ((layout, shape[layout.index("C")]) for layout in known)
        return {key[0]: groups[key] for key in keys if key in groups}


def judge_layout(
    path: str, shape: tuple[int, ...], same_tensor: Sequence[Clue], known: KnownLayers
) -> tuple[Layout | None, str]:
    """Return the layout at a site and the reason for it.

    A module of known layout that takes or returns the site's own tensor decides. Where there is
    none, the layers of known layout with as many channels decide, if they agree: those in the
    smallest module around the site that holds any. Where no layer has as many channels, all layers
    of known layout decide together.
    """
    rank = len(shape)
    if rank not in {3, 4}:
        return None, f"a tensor of {rank} axes is neither a map nor tokens"
    direct = next((clue for clue in same_tensor if clue.rank == rank), None)
    if direct is not None:
        reason_for = f"the same tensor goes through {_seen_from(path, direct)}"
        return _decide({direct.layout: [direct.kind]}, reason_for, verb="says")
    around, inside = known.nearest(path, shape)
    if inside:
        count = sum(kinds.total() for kinds in inside.values())
        many = f"{count} layers" if count > 1 else "a layer"
        reason_for = f"{many} {_place(path, around)} took {rank}-D tensors like it"
        return _decide(inside, reason_for, verb="say" if count > 1 else "says")
    if nearby := known.of_rank(rank):
        return _decide(nearby, f"all layers of the model that took {rank}-D tensors")
    return None, "no layer of known convention takes such tensors"


def other_layout(shape: tuple[int, ...], same_tensor: Sequence[Clue]) -> str:
    """Return the layout of a site's tensor where it is none that a rule can say; else nothing."""
    direct = next((clue.layout for clue in same_tensor if clue.rank == len(shape)), "")
    return direct if direct in OTHER_LAYOUTS else ""


def _decide(
    kinds_of: Mapping[str, Iterable[str]], reason_for: str, *, verb: str = "say"
) -> tuple[Layout | None, str]:
    layouts = sorted(kinds_of)
    kinds = ", ".join(sorted({kind for kinds in kinds_of.values() for kind in kinds}))
    reason = f"{reason_for} ({kinds})"
    match layouts:
        case ["NCHW"]:
            return "NCHW", reason
        case ["NHWC"]:
            return "NHWC", reason
        case ["NLC"]:
            return "NLC", reason
    return None, f"{reason}, which {verb} {' and '.join(layouts)}"


def _seen_from(path: str, clue: Clue) -> str:
    """Return the place of a clue, in the same words for sites that are alike."""
    if clue.path == path:
        return "it"
    inside = clue.path.startswith(f"{path}.")
    return f"its {clue.path[len(path) + 1 :]!r}" if inside else repr(clue.path)


def _place(path: str, around: str) -> str:
    """Return the place of layers, in the same words for sites that are alike."""
    if around == path:
        return "inside it"
    if around == path.rpartition(".")[0]:
        return "beside it"
    return f"inside {around!r}" if around else "in the model"


def _upwards(path: str) -> list[str]:
    """Return the path, its parent, and so on up to the model itself."""
    segments = path.split(".")
    return [".".join(segments[:end]) for end in range(len(segments), -1, -1)]

"""Finding the layout of a site's tensors from the modules around it, never from sizes alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from modswap.core.seen.site import Layout


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

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a tensor of this layout has as many channels as the clue's.

        Windows that were cut out of a map may have as many axes as the map in another layout.
        """
        axis = self.layout.index("C")
        return len(shape) == self.rank and shape[axis] == self.shape[axis]


def judge_layout(
    path: str, shape: tuple[int, ...], same_tensor: Sequence[Clue], all_clues: Sequence[Clue]
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
    direct = [clue for clue in same_tensor if clue.rank == rank]
    if direct:
        return _decide(direct[:1], f"the same tensor goes through {_seen_from(path, direct[0])}")
    nearby = [clue for clue in all_clues if clue.rank == rank]
    fitting = [clue for clue in nearby if clue.fits(shape)]
    for around in _upwards(path):
        inside = [clue for clue in fitting if _is_below(clue.path, around)]
        if inside:
            many = f"{len(inside)} layers" if len(inside) > 1 else "a layer"
            reason_for = f"{many} {_place(path, around)} took {rank}-D tensors like it"
            return _decide(inside, reason_for)
    if nearby:
        return _decide(nearby, f"all layers of the model that took {rank}-D tensors")
    return None, "no layer of known convention takes such tensors"


def _decide(clues: Sequence[Clue], reason_for: str) -> tuple[Layout | None, str]:
    layouts = sorted({clue.layout for clue in clues})
    kinds = ", ".join(sorted({clue.kind for clue in clues}))
    reason = f"{reason_for} ({kinds})"
    match layouts:
        case ["NCHW"]:
            return "NCHW", reason
        case ["NHWC"]:
            return "NHWC", reason
        case ["NLC"]:
            return "NLC", reason
    return None, f"{reason}, which say {' and '.join(layouts)}"


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


def _is_below(path: str, around: str) -> bool:
    return not around or path == around or path.startswith(f"{around}.")

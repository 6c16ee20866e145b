"""Scale and offset of drawn inputs, by the statistics in a model's first batch norm.

No file says the range of a model's inputs. Its first batch norm holds mean and variance of what it
got in training, so scale and offset are tried on a grid, which gets finer around the best.
"""

import math
from dataclasses import dataclass

import torch

from modswap.ops.heal.data.drawn.norms import TrainedNorm, first_norm, misfit, trained_norms
from modswap.ops.heal.data.taker import Key, Taker

MAX_NUMBERS = 1 << 23  # of a pass: samples of several points of the grid together
SCALES = (0.02, 200.0)  # deviations that are tried, from the first to the last
OFFSETS = (-3.0, 4.0)  # means, in deviations
POINTS = (14, 8)  # of the first grid
FINER = (5, 5)  # of each finer one
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class InputScale:
    """Deviation and mean of a model's inputs.

    Args:
        std: Deviation of the inputs.
        mean: Mean of the inputs.
        norm: Path of the norm whose statistics they fit best; empty where there is none.
        misfit: What is left of the norm's misfit.
    """

    std: float
    mean: float
    norm: str = ""
    misfit: float = 0.0

    def __str__(self) -> str:
        return f"mean {self.mean:.3g} and deviation {self.std:.3g}, {self.why}"

    @property
    def why(self) -> str:
        """Return where the numbers come from."""
        if not self.norm:
            return "since the model has no batch norm that says its range"
        return f"which fit the statistics of its first batch norm, {self.norm!r}, best"


NORMAL = InputScale(1.0, 0.0)


def input_scale(
    taker: Taker, key: Key, normal: torch.Tensor, near: InputScale | None = None
) -> InputScale:
    """Return the scale of inputs, given some of mean 0 and deviation 1 for an argument.

    Without a trained batch norm it is that of normal numbers. The search may begin `near` the scale
    of similar inputs.
    """
    norms = trained_norms(taker.model)
    if not norms or first_norm(taker.model, norms, taker.batch({key: normal})) is None:
        return NORMAL
    search = _Search(taker, key, normal, norms)
    low, high = (math.log(one) for one in SCALES)
    steps = (high - low) / (POINTS[0] - 1), (OFFSETS[1] - OFFSETS[0]) / (POINTS[1] - 1)
    if near is None:
        scales, offsets = torch.linspace(low, high, POINTS[0]), torch.linspace(*OFFSETS, POINTS[1])
        best = search.best(scales, offsets)
    else:
        best = math.log(near.std), near.mean / near.std, near.misfit
        steps = steps[0] / 2, steps[1] / 2
    for _ in range(ROUNDS if near is None else ROUNDS - 1):
        scales, offsets = (
            torch.linspace(middle - step, middle + step, count)
            for middle, step, count in zip(best[:2], steps, FINER, strict=True)
        )
        best = search.best(scales, offsets)
        steps = steps[0] / 2, steps[1] / 2
    std = math.exp(best[0])
    return InputScale(std, best[1] * std, search.path, best[2])


@dataclass(slots=True)
class _Search:
    """Misfits of the first norm at points of a grid."""

    taker: Taker
    key: Key
    normal: torch.Tensor
    norms: list[TrainedNorm]
    path: str = ""

    def best(self, scales: torch.Tensor, offsets: torch.Tensor) -> tuple[float, float, float]:
        """Return the point of the least misfit: log of the scale, offset in scales, misfit."""
        points = torch.cartesian_prod(scales, offsets)  # (G, 2)
        at_once = max(1, MAX_NUMBERS // self.normal.numel())
        found = torch.cat([self._misfits(some) for some in points.split(at_once)])
        least = int(found.nan_to_num(torch.inf).argmin())
        return float(points[least, 0]), float(points[least, 1]), float(found[least])

    def _misfits(self, points: torch.Tensor) -> torch.Tensor:
        """Return the misfit at each point."""
        each = [scale.exp() * (self.normal + offset) for scale, offset in points]
        reached = first_norm(
            self.taker.model, self.norms, self.taker.batch({self.key: torch.cat(each)})
        )
        assert reached is not None  # noqa: S101 - the same pass reached one before
        norm, given = reached
        self.path = norm.path
        return misfit(norm, given.unflatten(0, (len(points), -1))).cpu()

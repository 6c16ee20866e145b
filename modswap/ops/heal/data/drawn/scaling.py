"""Scale and offset of drawn inputs, by the statistics in a model's first batch norm.

No file says the range of a model's inputs. Its first batch norm holds mean and variance of what it
got in training, so scale and offset are tried on a grid, which gets finer around the best.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from modswap.ops.heal.data.drawn.norms import (
    TrainedNorm,
    first_norm,
    misfit,
    misfit_of,
    trained_norms,
)
from modswap.ops.heal.data.taker import Key, Taker

MAX_NUMBERS = 1 << 23  # of a pass: samples of several points of the grid together
SCALES = (0.02, 200.0)  # deviations that are tried, from the first to the last
OFFSETS = (-3.0, 4.0)  # means, in deviations
POINTS = (14, 8)  # of the first grid
FINER = (5, 5)  # of each finer one
ROUNDS = 4
LINEAR = 1e-3  # share of the largest number by which sums may differ


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
    search.see_whether_linear()
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


class _Linear(NamedTuple):
    """Inputs of a norm that are linear in scale and offset: moments of the parts of the sum."""

    norm: TrainedNorm
    mean: torch.Tensor  # (3, C): of what no input gives, of normal numbers, and of ones
    cov: torch.Tensor  # (3, 3, C)

    def misfits(self, points: torch.Tensor) -> torch.Tensor:
        """Return the misfit at each point, without a pass."""
        scale, offset = points[:, 0].exp(), points[:, 1]
        weights = torch.stack([torch.ones_like(scale), scale, scale * offset], 1).to(self.mean)
        mean = torch.einsum("gk,kc->gc", weights, self.mean)
        var = torch.einsum("gk,gl,klc->gc", weights, weights, self.cov).clamp(min=0)
        return misfit_of(self.norm, mean, var)


@dataclass(slots=True)
class _Search:
    """Misfits of the first norm at points of a grid."""

    taker: Taker
    key: Key
    normal: torch.Tensor
    norms: list[TrainedNorm]
    path: str = ""
    linear: _Linear | None = None

    def best(self, scales: torch.Tensor, offsets: torch.Tensor) -> tuple[float, float, float]:
        """Return the point of the least misfit: log of the scale, offset in scales, misfit."""
        points = torch.cartesian_prod(scales, offsets)  # (G, 2)
        if self.linear is not None:
            found = self.linear.misfits(points).cpu()
        else:
            at_once = max(1, MAX_NUMBERS // self.normal.numel())
            found = torch.cat([self._misfits(some) for some in points.split(at_once)])
        least = int(found.nan_to_num(torch.inf).argmin())
        return float(points[least, 0]), float(points[least, 1]), float(found[least])

    def _misfits(self, points: torch.Tensor) -> torch.Tensor:
        """Return the misfit at each point, by passes."""
        each = [scale.exp() * (self.normal + offset) for scale, offset in points]
        norm, given = self._reached(torch.cat(each))
        return misfit(norm, given.unflatten(0, (len(points), -1))).cpu()

    def _reached(self, x: torch.Tensor) -> tuple[TrainedNorm, torch.Tensor]:
        """Return the first norm, and what it gets for an input."""
        reached = first_norm(self.taker.model, self.norms, self.taker.batch({self.key: x}))
        assert reached is not None  # noqa: S101 - the same pass reached one before
        self.path = reached[0].path
        return reached

    def see_whether_linear(self) -> None:
        """Find the parts of the norm's input, if a convolution alone is before it, in four passes.

        Then a grid takes no further pass.
        """
        ones = torch.ones_like(self.normal)
        norm, nothing = self._reached(0 * ones)
        by_normal = self._reached(self.normal)[1] - nothing
        by_ones = self._reached(ones)[1] - nothing
        both = self._reached((self.normal + ones) / 2)[1]
        apart = (both - nothing - (by_normal + by_ones) / 2).abs().max()
        if apart > LINEAR * both.abs().max():
            return
        parts = torch.stack([nothing, by_normal, by_ones])  # (3, N, C, …)
        axes = [axis for axis in range(1, parts.ndim) if axis != 2]
        mean = parts.mean(axes, keepdim=True)
        parts = parts - mean
        rows = [(one * parts).mean(axes, dtype=torch.float64) for one in parts]
        self.linear = _Linear(norm, mean.double().view(3, -1), torch.stack(rows))

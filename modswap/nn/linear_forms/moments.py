"""Second moments of the patches of maps with the targets at their centres."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

Seen = Callable[[torch.Tensor], torch.Tensor]
PLACES = 200  # for each value that is seen of one, with which more hardly change the fit
_CHUNK_BYTES = 64 << 20  # of patches at once


@dataclass(frozen=True, slots=True)
class Fitting:
    """Covariances of patches and targets, to which a linear map is fitted.

    Args:
        gram: Covariance of the patches, (D, D), with a little ridge.
        cross: Covariance of patches and targets, (D, O).
        mean: Mean of the patches, (D,); zeros where no bias is fitted beside the map.
        target_mean: Mean of the targets, (O,); zeros as well.
        variance: Of the targets, summed over their channels.
        square: Mean square of what a map of zeros leaves, summed over the channels.
    """

    gram: torch.Tensor
    cross: torch.Tensor
    mean: torch.Tensor
    target_mean: torch.Tensor
    variance: torch.Tensor
    square: torch.Tensor

    def loss(self, kernel: torch.Tensor) -> torch.Tensor:
        """Return the squared error of a map (D, O), over the variance of the targets."""
        fitted = (kernel * (self.gram @ kernel)).sum() - 2 * (kernel * self.cross).sum()
        return (fitted + self.square) / self.variance

    def of(self, columns: torch.Tensor) -> "Fitting":
        """Return the same for some of the columns."""
        gram, cross, mean = self.gram[columns][:, columns], self.cross[columns], self.mean[columns]
        return Fitting(gram, cross, mean, self.target_mean, self.variance, self.square)

    def bias(self, kernel: torch.Tensor) -> torch.Tensor:
        """Return the bias (O,) that goes with a map."""
        return self.target_mean - self.mean @ kernel


class Moments:
    """Sums over all places of what a linear form sees there and of the targets, in float64.

    A channel of ones is added to the map, so that a patch says which of its taps are inside. A
    place has D = (channels + 1) taps values, channel by channel. Memory is constant.

    Args:
        channels: Channels of the map.
        outputs: Channels of the targets.
        taps: Values of each channel at a place.
        centre: The tap that is the place itself.
    """

    def __init__(self, channels: int, outputs: int, taps: int, centre: int) -> None:
        width = (channels + 1) * taps
        self.taps = taps
        self.count = 0
        self.gram = torch.zeros(width, width, dtype=torch.float64)
        self.cross = torch.zeros(width, outputs, dtype=torch.float64)
        self.sums = torch.zeros(outputs, dtype=torch.float64)
        self.squares = torch.zeros(outputs, dtype=torch.float64)
        self.one = channels * taps + centre  # it is 1 everywhere

    def add(self, maps: torch.Tensor, targets: torch.Tensor, seen: Seen) -> None:
        """Add maps (N, C, H, W) and their targets (N, O, H', W').

        `seen` returns what the form sees of maps, (N, D, H' W').
        """
        pixels = targets.shape[2] * targets.shape[3]
        each = max(1, _CHUNK_BYTES // max(1, 4 * pixels * len(self.gram)))
        for x, y in zip(maps.split(each), targets.split(each), strict=True):
            patches = rows_of(seen(x))
            wanted = rows_of(y.flatten(2))
            self.gram += (patches.T @ patches).to(self.gram)
            self.cross += (patches.T @ wanted).to(self.gram)
            self.sums += wanted.double().sum(0).cpu()
            self.squares += wanted.double().square().sum(0).cpu()
            self.count += len(patches)

    def fitting(self, *, biased: bool, ridge: float = 1e-4) -> Fitting:
        """Return what a map is fitted to, with or without a bias beside it.

        The sums are used up: large ones are not copied.
        """
        gram, cross = self.gram.div_(self.count), self.cross.div_(self.count)
        own = self.sums / self.count
        square = (self.squares / self.count).sum()
        variance = (self.squares / self.count - own.square()).sum().clamp(min=1e-30)
        mean, target_mean = gram.new_zeros(len(gram)), torch.zeros_like(own)
        if biased:
            mean, target_mean = gram[self.one].clone(), own
            gram.addr_(mean, mean, alpha=-1)
            cross.addr_(mean, own, alpha=-1)
            square = variance
        # the taps of the ones hardly vary: the ridge is that of the map itself
        level = gram.diagonal()[: len(gram) - self.taps].mean().clamp(min=1e-30)
        gram.diagonal().add_(ridge * level)
        return Fitting(gram, cross, mean, target_mean, variance, square)


def unfolded(maps: torch.Tensor, side: int, stride: int) -> torch.Tensor:
    """Return the patches of maps (N, C, H, W) with a channel of ones, (N, (C + 1) side², L)."""
    whole = with_ones(maps)
    if side == 1 and stride == 1:
        return whole.flatten(2)
    return F.unfold(whole, side, padding=side // 2, stride=stride)


def with_ones(maps: torch.Tensor) -> torch.Tensor:
    """Return maps with a further channel of ones."""
    return torch.cat([maps, maps.new_ones(len(maps), 1, *maps.shape[2:])], 1)


def rows_of(maps: torch.Tensor) -> torch.Tensor:
    """Return a row for each place: (N, C, L) -> (N L, C)."""
    return maps.transpose(1, 2).flatten(0, 1)

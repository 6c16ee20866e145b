"""Agreement of two models on the same inputs."""

from dataclasses import dataclass
from math import sqrt

_DEVIATIONS = 1.645  # of a normal distribution: 95 % lie above the lower bound


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of a model with the original on samples that no stage learned from.

    Args:
        metric: What was measured, `top-1` or `Dice`, as reports name it.
        value: The agreement over all samples; 1 is full agreement, and more is better.
        confident: That over the half of the samples where the original is most confident; None
            where the metric knows no confidence.
        error: Squared difference of the outputs over the variance of the original's.
        count: Number of samples.
    """

    metric: str
    value: float
    confident: float | None = None
    error: float = 0.0
    count: int = 0

    @property
    def order(self) -> tuple[float, float]:
        """Return what agreements are ordered by; at the same value, the smaller error is better."""
        return self.value, -self.error

    def better_than(self, other: "Agreement") -> bool:
        """Return whether an agreement is better than another."""
        return self.order > other.order

    def lower_bound(self) -> float:
        """Return the agreement that a value on few samples shows, at 95 % (Wilson, 1927, JASA 22).

        100 of 100 samples show .974, 512 of 512 show .995.
        """
        count, share = max(self.count, 1), min(max(self.value, 0.0), 1.0)
        square = _DEVIATIONS**2 / count
        middle = share + square / 2
        spread = _DEVIATIONS * sqrt(share * (1 - share) / count + square / (4 * count))
        return (middle - spread) / (1 + square)


@dataclass(frozen=True, slots=True)
class Control:
    """A further agreement in a report, by which that of a healed model can be judged.

    Args:
        name: What was done to the original, `shifted by one pixel`.
        agreement: The agreement of the original with itself afterwards.
    """

    name: str
    agreement: Agreement

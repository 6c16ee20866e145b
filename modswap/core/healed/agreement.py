"""Agreement of two models on the same inputs."""

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Control:
    """A further agreement in a report, by which that of a healed model can be judged.

    Args:
        name: What was done to the original, `shifted by one pixel`.
        agreement: The agreement of the original with itself afterwards.
    """

    name: str
    agreement: Agreement

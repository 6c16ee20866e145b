"""The progress of a fit, and its result."""

from collections.abc import Callable
from dataclasses import dataclass

from modswap.core.healed.agreement import Agreement
from modswap.core.progress import Passing

# why a fit ended
STEPS, GOAL, NO_BETTER, TIME = "all steps", "the goal", "no improvement", "the time is over"
INTERRUPTED, DIVERGED = "interrupted", "the loss is not finite"


@dataclass(frozen=True, slots=True)
class FitProgress:
    """The present place of a fit.

    Args:
        stage: Name of the stage, `fit` or `end`.
        site: Dotted name of the module that learns; empty where several do.
        step: Number of steps done.
        steps: Number of steps in all.
        loss: Error over the targets' variance in the last step.
        agreement: The best agreement so far; None where none is measured.
        samples_per_second: Samples learned from in a second, measuring included.
        seconds_left: Seconds until the last step.
    """

    stage: str
    site: str
    step: int
    steps: int
    loss: float
    agreement: Agreement | None
    samples_per_second: float
    seconds_left: float


class FitStep(Passing):
    """The progress of a fit in words, with its numbers in `now`."""

    now: FitProgress

    @classmethod
    def of(cls, now: FitProgress) -> "FitStep":
        """Return the words for the present place of a fit."""
        agreed = "" if now.agreement is None else f", agreement {now.agreement.value:.3f}"
        who = f" {now.site}" if now.site else ""
        step = cls(
            f"stage {now.stage}{who}: step {now.step} of {now.steps}, loss {now.loss:.3g}{agreed}, "
            f"{now.samples_per_second:.0f} samples/s, {now.seconds_left:.0f} s left"
        )
        step.now = now
        return step


FitWatcher = Callable[[FitProgress], None]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The result of a fit; the module holds the best state.

    Args:
        stage: Name of the stage.
        site: Dotted name of the module that learned; empty where several did.
        steps: Number of steps done.
        loss: Error over the targets' variance, the mean of the last steps.
        before: Agreement at the start; None where none is measured.
        after: That of the best state.
        ended: Why it ended: `all steps`, `the goal`, `no improvement`, `the time is over`,
            `interrupted` or `the loss is not finite`.
        seconds: Its duration, of all runs where it was resumed.
        targets: Where the targets came from, in a sentence; empty where that is not reported.
    """

    stage: str
    site: str
    steps: int
    loss: float
    before: Agreement | None
    after: Agreement | None
    ended: str
    seconds: float
    targets: str = ""

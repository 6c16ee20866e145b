"""A healing: what was measured before, after each stage and beside it, and at every site."""

from dataclasses import dataclass

from modswap.core.healed.agreement import Agreement, Control

HEALED = "healed"  # how the weights of a healed module began
STAGES = ("inherit", "closed", "norms", "fit", "end")


@dataclass(frozen=True, slots=True)
class StageResult:
    """A stage of a healing.

    Args:
        stage: Its name, one of `STAGES`.
        agreement: The agreement after it, on the held-out samples.
        seconds: Its duration.
        kept: Whether its result was kept; one that agrees less is taken back.
        note: What it did, in a sentence; empty for nothing to say.
    """

    stage: str
    agreement: Agreement
    seconds: float
    kept: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class SiteHealing:
    """A site of a healing.

    Args:
        path: Dotted name of the module.
        before: Squared error of its outputs over the variance of the old ones, before.
        after: The same after the healing.
        share: Share of its outputs' variance that comes from its own mechanism, such as attention,
            and not from a linear map beside it; None where it has no such map.
        notes: Sentences.
    """

    path: str
    before: float
    after: float
    share: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """A number of the original, the swapped and the healed model: of the user's own, or accuracy.

    `name` is what it is called in reports.
    """

    name: str
    original: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Healing:
    """The result of a healing.

    Args:
        samples: What the samples are, in words.
        learned: Number of samples that the stages learned from.
        held: Number of samples that all agreements are measured on.
        before: The agreement of the swapped model.
        after: That of the healed one.
        goal: The agreement from which no further stage is run.
        stages: Every stage that ran, in order.
        sites: Every site.
        controls: Comparisons to judge the agreement by.
        notes: Sentences for the report.
        measured: Numbers that are reported and that no stage goes by.
        interrupted: Whether it was broken off, so that more stages would follow.
    """

    samples: str
    learned: int
    held: int
    before: Agreement
    after: Agreement
    goal: float
    stages: tuple[StageResult, ...] = ()
    sites: tuple[SiteHealing, ...] = ()
    controls: tuple[Control, ...] = ()
    notes: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()
    interrupted: bool = False

    @property
    def exact(self) -> bool:
        """Return whether the swapped model computed what the original does from the start."""
        return not self.stages and not self.interrupted and self.before == self.after

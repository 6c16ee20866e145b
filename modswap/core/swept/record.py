"""The results of a sweep: each trial with its cost and its error, and the choice among them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modswap.core.errors import ModswapError, ShapeError
from modswap.core.healed.agreement import Agreement
from modswap.core.healed.healing import StageResult


@dataclass(frozen=True, slots=True)
class SweptCost:
    """The cost of a model, or how much of it a swap adds; latency in milliseconds of a pass.

    `memory` are the bytes of a pass without gradients at its worst moment.
    """

    params: int
    flops: int
    memory: int
    latency: float


NO_COST = SweptCost(0, 0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class SiteTrial:
    """A new module at a site.

    Args:
        site: Dotted name of the module that it replaces.
        module: The new module, as the rule names it.
        args: Its arguments that the sweep varies.
        base: Its other arguments, the same in all trials.
    """

    site: str
    module: str
    args: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the text by which a trial is known in a file."""
        return json.dumps([self.site, self.module, self.args, self.base], sort_keys=True)

    @property
    def words(self) -> str:
        """Return the varied arguments as text: `topk=4 n_win=7`."""
        return " ".join(f"{name}={value}" for name, value in self.args.items())

    @property
    def name(self) -> str:
        """Return the site, the module and the varied arguments as text."""
        return " ".join((self.site, self.module, self.words)).rstrip()


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of a trial.

    Args:
        trial: The trial.
        added: The cost that the swap adds to that of the model; None where it does not hold.
        error: Squared error of the model's outputs over their variance, on held-out samples, after
            the closed form; None where it does not hold.
        at_site: The same at the site itself.
        block: Dotted name of the block around the site; empty for the model.
        how: How the new module got its weights, in a word.
        seconds: Duration of the trial.
        reason: Why the swap does not hold; empty where it does.
        fix: What to do about it.
        healed: The agreement of the model after a healing; None where it was not healed.
        healing_seconds: Duration of the healing.
        at_block: The error at the output of the block around the site.
        unhealed: The agreement before the healing; None where it was not healed.
        stages: The stages of the healing, in order.
        goal: The agreement from which the healing ran no further stage.
    """

    trial: SiteTrial
    added: SweptCost | None = None
    error: float | None = None
    at_site: float | None = None
    block: str = ""
    how: str = ""
    seconds: float = 0.0
    reason: str = ""
    fix: str = ""
    healed: Agreement | None = None
    healing_seconds: float = 0.0
    at_block: float | None = None
    unhealed: Agreement | None = None
    stages: tuple[StageResult, ...] = ()
    goal: float = 1.0

    @property
    def holds(self) -> bool:
        """Return whether the swap holds and was measured."""
        return not self.reason and self.error is not None and self.added is not None


@dataclass(frozen=True, slots=True)
class SweepChoice:
    """The trials that a choice took, at most one of a site.

    Args:
        asked: The number of sites as the user wrote it, `3` or `3+`.
        results: The chosen trials, in the order of the sites.
        error: The sum of their errors.
        cost: The cost of the model with all of them, each amount as the sum over the sites, and of
            memory the largest.
        together: The same measured with all of them in the model; None where it was not.
    """

    asked: str
    results: tuple[TrialResult, ...]
    error: float
    cost: SweptCost
    together: SweptCost | None = None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The result of a sweep.

    Args:
        checkpoint: The file as the user gave it; empty for a model in memory.
        before: The cost of the model as it is.
        results: Every trial that ran, in the order of the sites.
        planned: The number of trials that were to run.
        samples: What the samples are, in words.
        learned: Number of samples that the closed forms learned from.
        held: Number of samples that errors are measured on.
        choice: The trials that were chosen; None where none was asked for.
        notes: Sentences for the report.
        error: Why there is no choice, or why no trial holds; None where all is well.
        interrupted: Whether it was broken off.
        seconds: Wall time.
        inputs: The dummy input as text.
        recipe: The recipe of the choice, as YAML; empty without one.
    """

    checkpoint: str
    before: SweptCost
    results: tuple[TrialResult, ...]
    planned: int
    samples: str = ""
    learned: int = 0
    held: int = 0
    choice: SweepChoice | None = None
    notes: tuple[str, ...] = ()
    error: ModswapError | None = None
    interrupted: bool = False
    seconds: float = field(default=0.0, compare=False)
    inputs: str = ""
    recipe: str = ""

    @property
    def ranked(self) -> tuple[TrialResult, ...]:
        """Return the trials that hold, the smallest error first."""
        holding = (one for one in self.results if one.holds)
        return tuple(sorted(holding, key=lambda one: one.error or 0.0))

    @property
    def failed(self) -> tuple[TrialResult, ...]:
        """Return the trials that do not hold."""
        return tuple(one for one in self.results if not one.holds)

    @property
    def exit_code(self) -> int:
        """Return the code that the command ends with."""
        return 0 if self.error is None else self.error.code


def none_holds(results: Sequence[TrialResult]) -> ShapeError | None:
    """Return the error of a sweep in which no trial holds; None where one does."""
    if not results or any(one.holds for one in results):
        return None
    first = results[0]
    what = f"none of {len(results)} trials holds; the first: {first.reason}"
    return ShapeError(what, first.trial.site, first.fix or "give options that fit")

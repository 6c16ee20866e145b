"""All trials of a sweep, one after another in this process."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from modswap.core.progress import Passing
from modswap.core.swept.record import SiteTrial, SweepResult, TrialResult, none_holds
from modswap.ops.sweep.bench import TrialBench
from modswap.ops.sweep.trial import run_trial

Take = Callable[[TrialResult], None]


def run_trials(
    bench: TrialBench, trials: Sequence[SiteTrial], done: Mapping[str, TrialResult], take: Take
) -> None:
    """Run the trials that are not done, and give each result away as soon as it is there."""
    for number, trial in enumerate(trials, 1):
        if trial.key in done:
            continue
        bench.wishes.progress(Passing(f"trial {number} of {len(trials)}: {trial.name}"))
        take(run_trial(bench, trial))


def in_order(
    trials: Iterable[SiteTrial], done: Mapping[str, TrialResult]
) -> tuple[TrialResult, ...]:
    """Return the results in the order of the trials, as far as they are there."""
    return tuple(done[trial.key] for trial in trials if trial.key in done)


def summed_up(
    bench: TrialBench,
    trials: Sequence[SiteTrial],
    done: Mapping[str, TrialResult],
    *,
    interrupted: bool = False,
) -> SweepResult:
    """Return the result of a sweep, without a choice."""
    results, samples = in_order(trials, done), bench.models.samples
    return SweepResult(
        checkpoint="",
        before=bench.before,
        results=results,
        planned=len(trials),
        samples=samples.description,
        learned=len(bench.learn),
        held=len(bench.held),
        notes=samples.notes,
        error=None if interrupted else none_holds(results),
        interrupted=interrupted,
        inputs=str(bench.case.call),
    )

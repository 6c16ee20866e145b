"""Try new modules at every site of a file, one at a time; nothing is written."""

import time
from dataclasses import replace

from modswap.core.asked.job import SweepJob
from modswap.core.errors import ModswapError
from modswap.core.progress import Progress, silent
from modswap.core.swept.choice import ChoiceRequest, choose
from modswap.core.swept.record import SweepResult, TrialResult, none_holds
from modswap.io.raw.held import holding
from modswap.io.recipe.reader import write_recipe
from modswap.ops.build.starts.start import Starts
from modswap.ops.first_input.find import first_pass
from modswap.ops.heal.data.taker import Taker, told_size
from modswap.ops.jobs.heal import look_at_data
from modswap.ops.reopen import reopen
from modswap.ops.run.without_compiler import without_compiler
from modswap.ops.sweep.bench import SweepWishes, TrialBench, bench_of
from modswap.ops.sweep.sweep import in_order, run_trials
from modswap.ops.sweep.together import measured_together, recipe_of_choice


def sweep_file(job: SweepJob, progress: Progress = silent) -> SweepResult:
    """Try every new module at every site of a file; after Ctrl-C return what is there.

    Raises:
        UsageError: If an option does not fit.
        InputError: If the data cannot be used.
        ModswapError: If the file cannot be read, or the rule does not fit it.
    """
    started = time.monotonic()
    look_at_data(job.data)
    with holding(job.subject.file) as held, without_compiler():
        result = _swept(job, held.watched(progress))
        held.refuse_change()
    return replace(result, seconds=time.monotonic() - started)


def _swept(job: SweepJob, progress: Progress) -> SweepResult:
    bench = open_bench(job, progress)
    trials = bench.trials()
    done: dict[str, TrialResult] = {}

    def take(result: TrialResult) -> None:
        done[result.trial.key] = result

    interrupted = False
    try:
        run_trials(bench, trials, done, take)
    except KeyboardInterrupt:
        interrupted = True
    results = in_order(trials, done)
    found = SweepResult(
        checkpoint=str(job.subject.file),
        before=bench.before,
        results=results,
        planned=len(trials),
        samples=bench.models.samples.description,
        learned=len(bench.learn),
        held=len(bench.held),
        notes=bench.models.samples.notes,
        error=None if interrupted else none_holds(results),
        interrupted=interrupted,
        inputs=str(bench.case.call),
    )
    if job.choice is None or interrupted or found.error is not None:
        return found
    return _with_choice(found, bench, job.choice)


def _with_choice(found: SweepResult, bench: TrialBench, request: ChoiceRequest) -> SweepResult:
    """Return a sweep with the choice among its trials, or with the error that there is none."""
    try:
        choice = choose(found.before, found.results, request)
        recipe = recipe_of_choice(bench, choice)
        found = replace(found, choice=choice, recipe=write_recipe(recipe))
        bench.wishes.progress("measuring the chosen trials together")
        return replace(found, choice=measured_together(bench, choice, recipe))
    except ModswapError as error:
        return replace(found, error=error)


def open_bench(job: SweepJob, progress: Progress) -> TrialBench:
    """Load the file of a job, and open its samples.

    Raises:
        ModswapError: If the file or the data cannot be used, or the rule does not fit the file.
    """
    subject = job.subject
    progress(f"loading {subject.file}")
    loaded = reopen(subject)
    progress("looking for an input that fits")
    call = first_pass(loaded, subject).calls[0]
    wishes = SweepWishes(
        job.recipe,
        job.data,
        job.request,
        job.modules,
        dict(job.grid),
        told_size(subject.inputs),
        progress,
        lambda: Starts(policy=subject.policy),
    )
    return bench_of(Taker.of(loaded, call), wishes)

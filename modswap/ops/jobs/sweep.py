"""Try new modules at every site of a file, one at a time; nothing is written."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from modswap.core.asked.job import SweepJob
from modswap.core.asked.used_paths import INPUT, UsedPath, healing_files
from modswap.core.errors import CheckpointError, ModswapError
from modswap.core.progress import Progress, silent
from modswap.core.swept.choice import refuse_too_many
from modswap.core.swept.record import SiteTrial, SweepResult, TrialResult
from modswap.core.swept.stored import result_of, text_of
from modswap.core.version import __version__
from modswap.core.words.printable import shown
from modswap.io.raw.held import holding, stamps_of
from modswap.ops.build.starts.start import Starts
from modswap.ops.first_input.find import first_pass
from modswap.ops.heal.data.taker import Taker, told_size
from modswap.ops.heal.fitting.resume import Plain, ResumeFile
from modswap.ops.jobs.heal import look_at_data
from modswap.ops.jobs.trials.on_ray import refuse_ray, run_on_ray
from modswap.ops.jobs.trials.processes import run_in_processes
from modswap.ops.reopen import reopen
from modswap.ops.run.without_compiler import without_compiler
from modswap.ops.sweep.bench import SweepWishes, TrialBench, bench_of
from modswap.ops.sweep.sweep import in_order, run_trials, summed_up
from modswap.ops.sweep.together import found_with_choice
from modswap.ops.sweep.trial import heal_trial

GOES_ON = "--resume goes on with the trials that are left"
NOTHING_KEPT = "nothing was kept: with --resume FILE the next run could go on where this one ended"
_TRIAL = "trial"  # the stage of a resume file whose results are those of trials


def sweep_file(job: SweepJob, progress: Progress = silent) -> SweepResult:
    """Try every new module at every site of a file; after Ctrl-C return what is there.

    Raises:
        UsageError: If an option does not fit, or Ray is not installed.
        CheckpointError: If a cluster cannot be reached.
        InputError: If the data cannot be used.
        ModswapError: If the file cannot be read, or the rule does not fit it.
    """
    started = time.monotonic()
    if job.ray:
        refuse_ray(job)
    look_at_data(job.data)
    kept = _kept(job)
    with holding(job.subject.file) as held, without_compiler():
        result = _swept(job, kept, held.watched(progress))
        held.refuse_change()
    return replace(result, seconds=time.monotonic() - started)


def _kept(job: SweepJob) -> ResumeFile:
    """Return the file that keeps the results, with those that it holds.

    Raises:
        UsageError: If it is that of another sweep.
        CheckpointError: If it cannot be read.
    """
    if job.resume is None:
        return ResumeFile(None, {})
    depends = _depends(job)
    if job.resume.exists():
        return ResumeFile.read(job.resume, depends)
    return ResumeFile(job.resume, depends)


def _depends(job: SweepJob) -> dict[str, Plain]:
    """Return what the result of a trial depends on beside the trial, by name."""
    subject, request, rule = job.subject, job.request, job.recipe.replace[0]
    found: dict[str, Plain] = {
        "file": str(subject.file),
        "data": job.data,
        "model": f"{subject.factory} {subject.renames} {subject.inputs}",
        "start": rule.start,
        "adapt": rule.adapt,
    }
    for name in ("samples", "seed", "batch", "device", "size", "mean", "std", "steps"):
        found[name] = str(getattr(request, name))
    found["modswap"] = __version__
    for used in (UsedPath(INPUT, subject.file), *healing_files(job.data), *_code_files(job)):
        sizes = [(one.name, one.nbytes, one.mtime_ns) for one in stamps_of(used.file)]
        found[f"size and time of {used.name}"] = str(sizes)
    return found


def _code_files(job: SweepJob) -> list[UsedPath]:
    """Return the files of code that the job names, `file.py:Class`."""
    named = [*job.modules, job.subject.factory or ""]
    files = [Path(one.partition(":")[0]) for one in named if ".py:" in one]
    return [UsedPath(str(file), file) for file in files if file.is_file()]


class _Results:
    """The results so far; each new one is written to the resume file as well.

    Args:
        trials: All trials.
        file: The resume file.

    Attributes:
        notes: Sentences for the report.
    """

    def __init__(self, trials: Sequence[SiteTrial], file: ResumeFile) -> None:
        self._file = file
        held = {trial.key: file.finished(_TRIAL, trial.key) for trial in trials}
        try:
            self.done = {key: result_of(state["result"]) for key, state in held.items() if state}
        except (ValueError, LookupError) as error:
            what = f"its results cannot be read: {shown(str(error))}"
            raise CheckpointError(what, str(file.file), "start again without it") from error
        self.notes: list[str] = []

    def take(self, result: TrialResult) -> None:
        """Keep a result."""
        self.done[result.trial.key] = result
        self._file.finish(_TRIAL, result.trial.key, {"result": text_of(result)})


def _swept(job: SweepJob, kept: ResumeFile, progress: Progress) -> SweepResult:
    bench = open_bench(job, progress)
    refuse_too_many(job.choice, len(bench.sites))
    trials = bench.trials()
    results = _Results(trials, kept)
    if results.done:
        progress(f"{len(results.done)} of {len(trials)} trials were done before")
    interrupted = False
    try:
        _run(job, bench, trials, results)
        _heal_best(job.heal_best, bench, trials, results)
    except KeyboardInterrupt:
        interrupted = True
    return _ended(job, bench, trials, results, interrupted=interrupted)


def _run(job: SweepJob, bench: TrialBench, trials: Sequence[SiteTrial], results: _Results) -> None:
    """Run the trials that are left, in this process, in several, or on a cluster."""
    left = [trial for trial in trials if trial.key not in results.done]
    if not (job.ray and left) and not (job.jobs > 1 and len(left) > 1):
        run_trials(bench, trials, results.done, results.take)
        return
    run = run_on_ray if job.ray else run_in_processes
    lost = run(job, open_bench, left, results.take, bench.wishes.progress)
    # not in the file: the next run tries them again
    results.done |= {one.trial.key: one for one in lost}


def _heal_best(
    count: int, bench: TrialBench, trials: Sequence[SiteTrial], results: _Results
) -> None:
    """Heal the trials with the smallest errors, and keep the agreements."""
    ranked = sorted(
        (one for one in in_order(trials, results.done) if one.holds),
        key=lambda one: one.error or 0.0,
    )
    for number, one in enumerate(ranked[:count], 1):
        if one.healed is None:
            bench.wishes.progress(f"healing {number} of {count}: {one.trial.site}")
            try:
                results.take(heal_trial(bench, one))
            except ModswapError as error:
                results.notes.append(f"{one.trial.name} was not healed: {error.line()}")


def _ended(
    job: SweepJob,
    bench: TrialBench,
    trials: Sequence[SiteTrial],
    results: _Results,
    *,
    interrupted: bool,
) -> SweepResult:
    found = summed_up(bench, trials, results.done, interrupted=interrupted)
    try:
        found = found_with_choice(found, bench, job.choice)
    except KeyboardInterrupt:
        found = replace(found, interrupted=True)
    notes = [*found.notes, *results.notes]
    if found.interrupted:
        notes.append(GOES_ON if job.resume is not None else NOTHING_KEPT)
    return replace(found, notes=tuple(notes), checkpoint=str(job.subject.file))


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

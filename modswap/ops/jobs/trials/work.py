"""The work of a process in which trials of a sweep run."""

from collections.abc import Callable

from modswap.core.asked.job import SweepJob
from modswap.core.progress import Progress, silent
from modswap.core.swept.record import SiteTrial, TrialResult
from modswap.ops.sweep.bench import TrialBench

ATTEMPTS = 3  # at a trial whose process dies
Open = Callable[[SweepJob, Progress], TrialBench]


class TrialWork:
    """Runs trials in a worker process, which loads the model once.

    Args:
        job: The sweep.
        opened: Loads the model and the samples.
        threads: Threads of a process.
    """

    def __init__(self, job: SweepJob, opened: Open, threads: int) -> None:
        self._job = job
        self._open = opened
        self._threads = threads
        self._bench: TrialBench | None = None

    def __call__(self, trial: SiteTrial, progress: Progress) -> TrialResult:
        """Return the result of a trial."""
        from modswap.ops.run.without_compiler import without_compiler
        from modswap.ops.sweep.trial import run_trial

        del progress
        with without_compiler():
            if self._bench is None:
                import torch

                torch.set_num_threads(min(self._threads, torch.get_num_threads()))
                self._bench = self._open(self._job, silent)
            return run_trial(self._bench, trial)


def died(trial: SiteTrial, why: str, fix: str) -> TrialResult:
    """Return the result of a trial whose process died each time."""
    return TrialResult(trial, reason=f"{why}, {ATTEMPTS} times", fix=fix)

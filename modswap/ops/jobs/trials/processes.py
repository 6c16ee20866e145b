"""The trials of a sweep in several processes at once; one that dies loses its trial alone."""

from collections.abc import Callable, Sequence
from pathlib import Path

from modswap.core.asked.job import SweepJob
from modswap.core.errors import BugError
from modswap.core.progress import Passing, Progress
from modswap.core.swept.record import SiteTrial, TrialResult
from modswap.ops.jobs.trials.work import ATTEMPTS, Open, TrialWork, died
from modswap.ops.jobs.workers import Event, Task, Workers, cores

_FIX = "run fewer at once: `--jobs 1`, or give it more memory"


def run_in_processes(
    job: SweepJob,
    opened: Open,
    trials: Sequence[SiteTrial],
    take: Callable[[TrialResult], None],
    progress: Progress,
) -> list[TrialResult]:
    """Run trials in as many processes as the job says, and give each result away.

    A trial whose process dies is run again, at most twice; of those that die each time the results
    are returned. When this function returns or raises, no process is left.

    Raises:
        BugError: If a trial raised what is no error of a user's.
    """
    size = min(job.jobs, max(len(trials), 1))
    work = TrialWork(job, opened, max(1, cores() // size))
    left, why = list(trials), ""
    for _ in range(ATTEMPTS):
        lost: list[SiteTrial] = []
        tasks = [Task(trial, "") for trial in left]
        with Workers(work, tasks, size) as workers:
            for event in workers.events():
                trial = left[event.task]
                if event.kind == "done":
                    take(event.content)
                    progress(Passing(f"tried {trial.name}"))
                elif event.kind == "lost":
                    lost.append(trial)
                    why = f"its process {event.content}"
                elif event.kind == "bug":
                    raise _bug(job.subject.file, event)
        left = lost
        if not left:
            return []
        progress(f"{len(left)} trials are run again: {why}")
    return [died(trial, why, _FIX) for trial in left]


def _bug(file: Path, event: Event) -> BugError:
    what = f"a bug of modswap: {event.content.rstrip().rpartition(chr(10))[2]}"
    error = BugError(what, str(file), "report it with the traceback and the command")
    error.traceback = event.content
    return error

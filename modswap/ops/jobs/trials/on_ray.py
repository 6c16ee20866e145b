"""Run the trials of a sweep on a Ray cluster, which runs those again whose process dies."""

import os
import socket
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from modswap.core.asked.job import SweepJob
from modswap.core.errors import BugError, CheckpointError, ModswapError, UsageError
from modswap.core.progress import Passing, Progress, silent
from modswap.core.swept.record import SiteTrial, TrialResult
from modswap.ops.jobs.trials.work import ATTEMPTS, Open, TrialWork, died

OPTION = "--ray"
_CONNECT_SECONDS = 5.0  # Ray itself tries for minutes
_TOKEN = "set RAY_AUTH_MODE=token where it asks for a token"  # noqa: S105 - words
_FIX = "look into the logs of the cluster, or give its machines more memory"


def refuse_ray(job: SweepJob) -> None:
    """Refuse a job that a cluster cannot run, before anything is loaded.

    Raises:
        UsageError: If Ray is not installed, or an option does not go with it.
        CheckpointError: If nothing answers at the address.
    """
    if job.jobs > 1:
        what = "processes of this machine are asked for, and a cluster as well"
        raise UsageError(what, "--jobs", "leave it out: a cluster runs a trial on each CPU")
    if job.request.device != "cpu":
        what = f"trials on a cluster run on CPUs, not on {job.request.device!r:.40}"
        raise UsageError(what, "--device", "leave it out, or leave `--ray` out")
    _ray()
    host, _, port = job.ray.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _unreached(job.ray, error) from error


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        fix = "pip install 'modswap[ray]', or run in processes: `--jobs N`"
        raise UsageError(f"Ray is not installed: {error}", OPTION, fix) from error


def _unreached(address: str, error: Exception) -> CheckpointError:
    why = str(error).partition("\n")[0]
    fix = f"start it, and name the HOST:PORT of its head; {_TOKEN}"
    return CheckpointError(f"no cluster answers at {address!r:.80}: {why:.200}", OPTION, fix)


class TrialActor:
    """Runs trials in a process of the cluster.

    Args:
        work: Runs one trial.
        folder: The current folder of the process that asks, by which names of files go.
    """

    def __init__(self, work: TrialWork, folder: str) -> None:
        self._work = work
        self._folder = folder

    def run(self, trial: SiteTrial) -> TrialResult | ModswapError | str:
        """Return the result of a trial, the error of a user's, or the traceback of a bug."""
        try:
            os.chdir(self._folder)
        except OSError:
            what = f"{socket.gethostname()}, a machine of the cluster, lacks {self._folder!r}"
            return CheckpointError(what, OPTION, "give all machines the same files")
        try:
            return self._work(trial, silent)
        except ModswapError as error:
            return error
        except Exception:  # noqa: BLE001 - a bug of modswap; the process that asks reports it
            return traceback.format_exc()


def run_on_ray(
    job: SweepJob,
    opened: Open,
    trials: Sequence[SiteTrial],
    take: Callable[[TrialResult], None],
    progress: Progress,
) -> list[TrialResult]:
    """Run trials on the CPUs of the cluster that the job names, and give each result away.

    Ray runs a trial again whose process dies, at most twice; of those that die each time the
    results are returned. The connection ends with this function, and the processes with it.

    Raises:
        CheckpointError: If the cluster cannot be reached, or a machine of it lacks the files.
        ModswapError: If a process cannot load the model or the data.
        BugError: If a trial raised what is no error of a user's.
    """
    ray = _ray()
    try:
        ray.init(address=job.ray, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise _unreached(job.ray, error) from error
    try:
        done = _run(ray, TrialWork(job, opened, 1), trials, take, progress)
    finally:
        ray.shutdown()
    return [died(one, "its process died", _FIX) for one in trials if one.key not in done]


def _run(
    ray: Any,
    work: TrialWork,
    trials: Sequence[SiteTrial],
    take: Callable[[TrialResult], None],
    progress: Progress,
) -> set[str]:
    """Run trials, and return the keys of those that ended."""
    # a process that dies is started again, whichever trial killed it
    wishes = {"num_cpus": 1, "max_restarts": -1, "max_task_retries": ATTEMPTS - 1}
    actor = ray.remote(**wishes)(TrialActor)
    size = min(len(trials), max(1, int(ray.cluster_resources().get("CPU", 1))))
    idle = [actor.remote(work, str(Path.cwd())) for _ in range(size)]
    left, done = list(trials), set[str]()
    running: dict[Any, Any] = {}  # the actor that runs a task, by the task
    while left or running:
        while left and idle:
            own = idle.pop()
            running[own.run.remote(left.pop(0))] = own
        ((ready,), _) = ray.wait(list(running))
        idle.append(running.pop(ready))
        try:
            result = _result(ray.get(ready))
        except ray.exceptions.RayError:
            continue
        done.add(result.trial.key)
        take(result)
        progress(Passing(f"tried {result.trial.name}"))
    return done


def _result(found: TrialResult | ModswapError | str) -> TrialResult:
    """Return a result.

    Raises:
        ModswapError: If it is an error, or the traceback of a bug.
    """
    if isinstance(found, ModswapError):
        raise found
    if isinstance(found, str):
        what = f"a bug of modswap: {found.rstrip().rpartition(chr(10))[2]}"
        bug = BugError(what, OPTION, "report it with the traceback and the command")
        bug.traceback = found
        raise bug
    return found

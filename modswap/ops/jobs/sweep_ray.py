"""The trials of a sweep on a Ray cluster, by Ray Tune."""

import os
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from modswap.core.asked.job import SweepJob
from modswap.core.errors import CheckpointError, UsageError
from modswap.core.progress import Passing, Progress
from modswap.core.swept.record import SiteTrial, TrialResult
from modswap.core.swept.stored import result_of, text_of
from modswap.ops.jobs.sweep_workers import ATTEMPTS, Open, TrialWork, died

OPTION = "--ray"
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep, which keeps its results
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def run_on_ray(
    job: SweepJob,
    opened: Open,
    trials: Sequence[SiteTrial],
    take: Callable[[TrialResult], None],
    progress: Progress,
) -> None:
    """Run trials on the cluster that the job names, and give each result away.

    Ray starts a process for each of its CPUs; one that dies loses its trial, which runs again, at
    most twice. The files of the job have the same paths on all machines.

    Raises:
        UsageError: If Ray Tune is not installed.
        CheckpointError: If the cluster cannot be reached.
    """
    ray, tune = _imported()
    _connect(ray, job)
    done: set[str] = set()

    class Taking(tune.Callback):  # type: ignore[misc, name-defined] # of a package without types
        """Takes the result of each trial as soon as it is there."""

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any
        ) -> None:
            """Take a result."""
            del iteration, trials, trial
            found = result_of(result["result"])
            done.add(found.trial.key)
            take(found)
            words = " ".join((found.trial.site, found.trial.module, found.trial.words)).rstrip()
            progress(Passing(f"tried {words}"))

    try:
        with tempfile.TemporaryDirectory(prefix="modswap-ray-") as folder:
            tune.Tuner(
                _trainable(tune, TrialWork(job, opened, 1)),
                param_space={
                    "number": tune.grid_search(list(range(len(trials)))),
                    "trials": trials,
                },
                tune_config=tune.TuneConfig(reuse_actors=True),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    verbose=0,
                    callbacks=[Taking()],
                    failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
                ),
            ).fit()
    finally:
        ray.shutdown()
    for trial in trials:
        if trial.key not in done:
            take(died(trial, "its process was lost"))


def _imported() -> tuple[Any, Any]:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return import_module("ray"), import_module("ray.tune")
    except ImportError as error:
        fix = "pip install 'modswap[ray]', or use --jobs"
        raise UsageError(f"Ray Tune is not installed: {error}", OPTION, fix) from None


def _connect(ray: Any, job: SweepJob) -> None:
    address = None if job.ray == "local" else job.ray
    sizes = {"num_cpus": job.jobs} if address is None else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **sizes)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        what = f"the cluster {job.ray!r:.80} cannot be reached: {error}".partition("\n")[0]
        raise CheckpointError(what, OPTION, "start it by `ray start --head`") from error


def _trainable(tune: Any, work: TrialWork) -> Any:
    """Return the class that Ray runs: an actor loads the model once, and then runs trials."""

    class OneTrial(tune.Trainable):  # type: ignore[misc] # of a package without types
        """Runs one trial in a step."""

        def setup(self, config: Any) -> None:
            """Note the trial."""
            self.now = config

        def reset_config(self, new_config: Any) -> bool:
            """Note another trial."""
            self.now = new_config
            return True

        def step(self) -> dict[str, Any]:
            """Return the result of the trial."""
            trial = self.now["trials"][self.now["number"]]
            return {"result": text_of(work(trial, lambda _: None)), "done": True}

    return OneTrial

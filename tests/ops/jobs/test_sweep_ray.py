"""Trials of a sweep on a local Ray cluster; without Ray they are refused in words."""

import importlib.util
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from modswap.core.asked.healing import HealingRequest
from modswap.core.asked.job import Policy, Subject, SweepJob
from modswap.core.errors import UsageError
from modswap.core.progress import Progress
from modswap.ops.jobs import sweep_ray
from modswap.ops.jobs.sweep import open_bench, sweep_file
from modswap.ops.jobs.sweep_ray import run_on_ray
from modswap.ops.rule_call import recipe_of_call
from modswap.ops.sweep.bench import TrialBench
from tests.ops.heal.nets import classifier, pictures

if TYPE_CHECKING:
    from modswap.core.swept.record import TrialResult

needs_ray = pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="Ray Tune is not installed: pip install '.[ray]'"
)


@pytest.fixture
def job(tmp_path: Path) -> SweepJob:
    torch.save(classifier(), tmp_path / "net.pt")
    np.save(tmp_path / "data.npy", pictures().numpy())
    recipe = recipe_of_call({"match": "mix", "with_": "BRA", "args": {"n_win": 2}}, [(2, 3, 8, 8)])
    inputs: Any = recipe.inputs
    subject = Subject(tmp_path / "net.pt", Policy(("tests.ops.heal.nets.*",)), inputs=inputs)
    request, grid = HealingRequest(samples=64), (("topk", (1, 2, 3)),)
    data = str(tmp_path / "data.npy")
    return SweepJob(subject, data, recipe, request, (), grid, jobs=2, ray="local")


class KilledOnce:
    """The bench of a process that is killed at its first trial."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self, job: SweepJob, progress: Progress) -> TrialBench:
        bench = open_bench(job, progress)
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return bench


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Ray's own code
def test_cluster_gives_the_table_of_local_processes(job: SweepJob) -> None:
    on_ray, local = sweep_file(job), sweep_file(replace(job, ray=""))

    assert [one.trial for one in on_ray.results] == [one.trial for one in local.results]
    for mine, theirs in zip(on_ray.results, local.results, strict=True):
        assert mine.error == pytest.approx(theirs.error, rel=1e-4)
        assert mine.holds
        assert mine.added is not None
        assert theirs.added is not None
        assert replace(mine.added, latency=0.0) == replace(theirs.added, latency=0.0)


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Ray's own code
def test_killed_worker_loses_one_trial_which_is_run_again(job: SweepJob, tmp_path: Path) -> None:
    done: list[TrialResult] = []
    trials = open_bench(job, lambda _: None).trials()

    run_on_ray(job, KilledOnce(tmp_path / "killed"), trials, done.append, lambda _: None)

    assert (tmp_path / "killed").exists()
    assert sorted(one.trial.words for one in done) == ["topk=1", "topk=2", "topk=3"]
    assert all(one.holds for one in done)


def test_without_ray_it_is_said_what_to_install(
    job: SweepJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(sweep_ray, "import_module", missing)

    with pytest.raises(UsageError) as caught:
        run_on_ray(job, open_bench, (), print, print)

    said = "--ray: Ray Tune is not installed: No module named 'ray'; pip install 'modswap[ray]'"
    assert str(caught.value).startswith(said)

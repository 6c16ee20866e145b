"""The trials of a sweep on a local Ray cluster of two workers.

Covers: on_ray, work.
"""

import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modswap.cli.app import run
from modswap.core.errors import BugError, CheckpointError
from modswap.core.swept.record import SiteTrial
from modswap.ops.jobs.trials import on_ray
from tests.ops.heal.nets import classifier, pictures

needs_ray = pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="Ray is not installed: pip install '.[ray]'"
)
ROOT = Path(__file__).parents[4]
WAIT_SECONDS = 600
STARTS = 10
HEAD = (
    "--head",
    "--block",
    "--num-cpus=2",
    "--object-store-memory=100000000",
    "--node-ip-address=127.0.0.1",
    "--include-dashboard=false",
    "--include-log-monitor=false",
    "--no-monitor",
    "--disable-usage-stats",
)
CODE = """
import os, signal
from pathlib import Path
import torch

class Own(torch.nn.Conv2d):
    def __init__(self, dilation=1):
        super().__init__(8, 8, 3, padding=dilation, dilation=dilation)

    def forward(self, x):
        mark = Path(__file__).with_name("killed")
        if len(x) > 2 and self.dilation == (2, 2) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    torch.save(classifier(), folder / "net.pt")
    np.save(folder / "data.npy", pictures().numpy())
    (folder / "own.py").write_text(CODE)
    return folder


def call(*more: str) -> list[str]:
    data = ["--data", "data.npy", "--samples", "64", "--input", "2,3,8,8"]
    allow = ["--allow", "tests.ops.heal.nets.*"]
    return ["sweep", "net.pt", "--match", "mix", *data, *allow, "--format", "json", *more]


BRA = ["--with", "BRA", "--set", "n_win=2", "--grid", "topk=1,2,3"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Yield the environment of a program that uses a cluster of two CPUs at RAY_ADDRESS."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short, as names of sockets have to be
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    head = _head(folder, environment)
    try:
        yield environment
    finally:
        head.terminate()  # it stops the processes that it started
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _head(folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a cluster; Ray gives its parts 15 seconds to start, few on a busy machine."""
    log = folder / "log"
    for _ in range(STARTS):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        environment["RAY_ADDRESS"] = f"127.0.0.1:{port}"
        with log.open("wb") as written:
            program = [str(Path(sys.executable).with_name("ray")), "start", *HEAD]
            head = subprocess.Popen(
                [*program, f"--port={port}", f"--temp-dir={folder}"],
                env=environment,
                stdout=written,
                stderr=written,
            )
        while head.poll() is None:
            if b"Ray runtime started" in log.read_bytes():
                return head
            time.sleep(0.5)
    pytest.fail(f"no cluster started: {log.read_text()[-2000:]}")


def started(files: Path, environment: dict[str, str], *more: str) -> "subprocess.Popen[str]":
    address = environment["RAY_ADDRESS"]
    return subprocess.Popen(
        [sys.executable, "-m", "modswap", *call(*more), "--ray", address],
        cwd=files,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def swept(files: Path, environment: dict[str, str], *more: str) -> dict[str, Any]:
    out, said = started(files, environment, *more).communicate(timeout=WAIT_SECONDS)
    assert out, said
    found: dict[str, Any] = json.loads(out)
    return found


@needs_ray
@pytest.mark.slow
def test_cluster_gives_the_table_of_local_processes(
    files: Path,
    cluster: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files)

    found = swept(files, cluster, *BRA)["trials"]
    assert run(call(*BRA, "--jobs", "2")) == 0
    local = json.loads(capsys.readouterr().out)["trials"]

    assert [one["args"] for one in found] == [one["args"] for one in local]
    for mine, theirs in zip(found, local, strict=True):
        assert mine["holds"]
        assert mine["error"] == pytest.approx(theirs["error"], rel=1e-4)
        costs = [{**one["added"], "latency": 0} for one in (mine, theirs)]
        assert costs[0] == costs[1]


@needs_ray
@pytest.mark.slow
def test_worker_that_is_killed_loses_one_trial_which_is_run_again(
    files: Path, cluster: dict[str, str]
) -> None:
    found = swept(files, cluster, "--with", "own.py:Own", "--grid", "dilation=1,2,3")["trials"]

    assert (files / "killed").exists()
    assert [one["args"]["dilation"] for one in found] == [1, 2, 3]
    assert all(one["holds"] for one in found)


@needs_ray
@pytest.mark.slow
def test_sweep_that_was_killed_goes_on(files: Path, cluster: dict[str, str]) -> None:
    kept = files / "kept"
    grid = [
        "--with",
        "BRA",
        "--set",
        "n_win=4",
        "--grid",
        f"topk={','.join(map(str, range(1, 9)))}",
    ]
    first = started(files, cluster, *grid, "--resume", str(kept))
    until = time.monotonic() + WAIT_SECONDS
    while not kept.exists() and first.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = kept.read_bytes()

    second = started(files, cluster, *grid, "--resume", str(kept), "-v")
    out, said = second.communicate(timeout=WAIT_SECONDS)

    assert first.returncode == -signal.SIGKILL
    assert len(kept.read_bytes()) > len(before)
    assert " of 8 trials were done before" in said
    assert [one["holds"] for one in json.loads(out)["trials"]] == [True] * 8


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--jobs", "2"], 2, "--jobs: processes of this machine are asked for, and a cluster"),
        (["--device", "cuda"], 2, "--device: trials on a cluster run on CPUs, not on 'cuda'"),
        ([], 2, "--ray: Ray is not installed: No module named 'ray'; pip install 'modswap[ray]'"),
    ],
)
def test_wrong_call_is_refused_before_anything_is_loaded(
    more: list[str],
    code: int,
    message: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(on_ray, "import_module", missing)
    monkeypatch.chdir(files)

    assert run(call(*BRA, "--ray", "127.0.0.1:6379", *more)) == code
    assert message in capsys.readouterr().err.replace("\n  fix: ", "; ")


def test_address_at_which_nothing_answers_is_refused(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_ray, "import_module", lambda _: None)
    monkeypatch.chdir(files)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"

    assert run(call(*BRA, "--ray", address)) == 3
    assert f"--ray: no cluster answers at '{address}': [Errno" in capsys.readouterr().err


def wrong_work(*_: Any) -> Any:
    raise ZeroDivisionError("by 0")


def test_error_in_a_process_of_the_cluster_is_that_of_the_sweep() -> None:
    work: Any = wrong_work
    trial = SiteTrial("mix", "BRA", {}, {})

    lacking = on_ray.TrialActor(work, "/no/such/folder").run(trial)
    broken = on_ray.TrialActor(work, ".").run(trial)

    with pytest.raises(CheckpointError, match="lacks '/no/such/folder'; give all machines the"):
        on_ray._result(lacking)
    with pytest.raises(BugError, match="a bug of modswap: ZeroDivisionError: by 0"):
        on_ray._result(broken)

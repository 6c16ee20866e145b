"""Several recipes, each checked in a process of its own."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from modswap.cli.app import run
from modswap.core.errors import BugError, CheckpointError, ModswapError, ShapeError, together
from modswap.core.kept.outcome import Outcome
from modswap.ops.jobs.check import Request, check_many, check_one
from tests.models import build_gated
from tests.recipes import UNEXAMINED

ROOT = Path(__file__).parents[3]
RECIPE = """\
version: 1
checkpoint: net.pt
allow: tests.models.*
inputs: [{shape: [1, 3, 28, 28]}]
replace: [{match: "{space,channel}_attention", with: BiLevelRoutingAttention}]
"""
QUICKLY = RECIPE + UNEXAMINED
CODE = """\
import os, signal, sys, time
from torch import nn
from tests.models import Keep, build_gated

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def leave():
    os._exit(5)

def stop():
    sys.exit(5)

def talk():
    print("HELLO")
    return build_gated()

class Slow(Keep):
    def forward(self, x):
        open(f"{os.getpid()}.pid", "w").close()
        time.sleep(60)
        return x

class LateInAnotherProcess(Keep):
    def forward(self, x):
        return x if "modswap.ops.jobs.workers" in sys.modules else Slow.forward(self, x)
"""
SLOW = RECIPE.replace("BiLevelRoutingAttention", "'code.py:Slow', layout: NCHW, wants: NCHW")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(build_gated(), "net.pt")
    torch.save(build_gated().state_dict(), "weights.pt")
    Path("code.py").write_text(CODE)
    Path("good.yaml").write_text(QUICKLY)
    Path("bad.yaml").write_text(RECIPE.replace("{space,channel}", "spade"))
    for name in ("die", "leave", "stop", "talk"):
        text = QUICKLY.replace("net.pt", "weights.pt") + f"model: {{factory: 'code.py:{name}'}}\n"
        Path(f"{name}.yaml").write_text(text)
    return tmp_path


def command(*args: str, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "modswap", *args],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_outcomes_keep_the_given_order_even_if_processes_die(
    folder: Path,
) -> None:
    said: list[str] = []
    names = ["die.yaml", "good.yaml", "leave.yaml", "stop.yaml", "good.yaml"]

    done = check_many([Request(name) for name in names], 2, said.append)

    assert [one.recipe for one in done] == names
    assert [one.exit_code for one in done] == [3, 0, 3, 3, 0]
    assert "good.yaml: reference pass" in said
    killed, left, stopped = done[0].error, done[2].error, done[3].error
    assert isinstance(killed, CheckpointError)
    assert killed.line() == (
        "die.yaml: its process was ended by SIGKILL, as the system does where memory runs out; "
        "check fewer at once: `--jobs 1`"
    )
    assert isinstance(left, CheckpointError)
    assert left.what == "its process ended with exit code 5"
    assert left.fix == "check it alone to see why: `modswap check leave.yaml`"
    assert isinstance(stopped, CheckpointError)
    assert stopped.line() == (
        "weights.pt: the model's own code raised SystemExit: 5; "
        "mend the model's code, or save the file again"
    )


@pytest.mark.slow
def test_what_a_process_finds_is_what_this_one_finds(folder: Path) -> None:
    requests = [Request("good.yaml"), Request("bad.yaml"), Request("none.yaml")]

    there = check_many(requests, 1, lambda text: None)
    here = tuple(check_one(request, lambda text: None) for request in requests)

    assert [one.exit_code for one in there] == [0, 2, 3]
    assert there[0] == here[0]
    for ours, theirs in zip(here[1:], there[1:], strict=True):
        assert str(ours.error) == str(theirs.error)
        assert type(ours.error) is type(theirs.error)


@pytest.mark.slow
def test_modules_of_one_name_in_two_folders_stay_apart(folder: Path) -> None:
    for name, channels in (("one", 16), ("two", 8)):
        Path(name).mkdir()
        Path(name, "nets.py").write_text(
            f"from tests.models import build_gated\ndef build():\n return build_gated({channels})\n"
        )
        torch.save(build_gated(channels).state_dict(), f"{name}/net.pt")
        Path(name, "swap.yaml").write_text(QUICKLY + "model: {factory: 'nets:build'}\n")

    done = check_many([Request("one/swap.yaml"), Request("two/swap.yaml")], 1, lambda text: None)

    assert [one.error for one in done] == [None, None]
    assert [one.sites[0].args["dim"] for one in done] == [16, 8]


@pytest.mark.slow
def test_bug_in_one_check_is_the_outcome_of_its_recipe_alone(folder: Path) -> None:
    broken = Request("bad.yaml", policy=3)  # type: ignore[arg-type] # as a bug of ours would

    done = check_many([broken, Request("good.yaml"), broken], 2, lambda text: None)

    assert [one.exit_code for one in done] == [70, 0, 70]
    bug = done[0].error
    assert isinstance(bug, BugError)
    assert bug.where == "bad.yaml"
    assert bug.what.startswith("a bug of modswap: AttributeError: ")
    assert bug.fix == "report it with the traceback, the command and the recipe"
    assert bug.traceback.startswith("Traceback")


def test_command_prints_the_traceback_of_a_bug_beside_the_report_of_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = BugError("a bug of modswap: KeyError: 'x'", "bad.yaml", "report it")
    bug.traceback = "Traceback (most recent call last):\n  …\n"
    outcomes = (Outcome("check", "", "bad.yaml", error=bug), Outcome("check", "", "good.yaml"))
    monkeypatch.setattr("modswap.ops.jobs.check.check_many", lambda *args: outcomes)

    code = run(["check", "bad.yaml", "good.yaml"])

    out, err = capsys.readouterr()
    assert code == 70
    assert "1 of 2 recipes hold" in out
    assert err == f"error: bad.yaml: {bug.what}\n  fix: report it\n{bug.traceback}"


def test_errors_travel_with_all_that_they_say() -> None:
    error = together([ShapeError("a", "b", "c"), ShapeError("d", "e", "f")])

    copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error)
    assert [type(one) for one in copy.all] == [ShapeError, ShapeError]


@pytest.mark.parametrize("kind", ModswapError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_error_travels(kind: type[ModswapError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what", "where", "fix")))

    assert (type(copy), copy.line()) == (kind, "where: what; fix")


@pytest.mark.slow
def test_command_loads_no_torch_and_reports_in_order(folder: Path) -> None:
    program = (
        "import sys\nfrom modswap.cli.app import run\n"
        "code = run(['check', 'talk.yaml', 'bad.yaml', '--format', 'json', '--jobs', '2'])\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "sys.exit(code)\n"  # not guarded by its name
    )
    Path("program.py").write_text(program)

    done = subprocess.run(
        [sys.executable, "program.py"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert done.returncode == 2, done.stderr
    assert [one["recipe"] for one in json.loads(done.stdout)] == ["talk.yaml", "bad.yaml"]
    assert "HELLO" in done.stderr


@pytest.mark.slow
def test_interruption_ends_all_processes_at_once(folder: Path) -> None:
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text(SLOW)
    child = command("check", "one.yaml", "two.yaml", "--jobs", "2", cwd=folder)
    while len(list(folder.glob("*.pid"))) < 2:
        assert child.poll() is None
        time.sleep(0.05)

    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to all of them
    asked = time.monotonic()
    _, said = child.communicate(timeout=30)

    assert child.returncode == 130
    assert time.monotonic() - asked < 10
    assert said == ""
    for file in folder.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.stem), 0)


@pytest.mark.slow
def test_interruption_leaves_no_process_of_a_process_and_no_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    late = SLOW.replace("Slow", "LateInAnotherProcess")
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text(late)
    child = command("check", "one.yaml", "two.yaml", "--jobs", "2", "--thorough", cwd=folder)
    while not list(folder.glob("*.pid")):  # another process loads the file of a recipe
        assert child.poll() is None
        time.sleep(0.05)

    os.killpg(child.pid, signal.SIGINT)
    child.communicate(timeout=30)

    assert child.returncode == 130
    assert list(scratch.iterdir()) == []
    for file in folder.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.stem), 0)


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(folder: Path) -> None:
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text(SLOW)
    child = command("check", "one.yaml", "two.yaml", "--jobs", "2", cwd=folder)
    while len(list(folder.glob("*.pid"))) < 2:
        assert child.poll() is None
        time.sleep(0.05)

    child.kill()

    child.communicate(timeout=30)  # their end of the pipes is closed when they have ended


def test_jobs_are_at_least_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["check", "good.yaml", "--jobs", "0"])

    assert code == 2
    assert "--jobs" in capsys.readouterr().err

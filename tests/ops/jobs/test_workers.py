"""Worker processes: their events, their ends, and that no process or file is left."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from modswap.ops.jobs.workers import Event, Task, Workers
from tests.ops.jobs.work import work

ROOT = Path(__file__).parents[3]
PROGRAM = """\
import sys
from modswap.ops.jobs.workers import Task, Workers
from tests.ops.jobs.work import work
with Workers(work, [Task(f"sleep {sys.argv[1]}", "a"), Task(f"sleep {sys.argv[1]}", "b")], 2) as w:
    list(w.events())
"""  # not guarded by its name


def events(*arguments: str, size: int = 2, groups: str = "") -> list[Event]:
    tasks = [Task(argument, groups[index : index + 1]) for index, argument in enumerate(arguments)]
    with Workers(work, tasks, size) as workers:
        return list(workers.events())


def ends(found: list[Event]) -> dict[int, tuple[str, str]]:
    """Return the event that ended each task, without its traceback but for the last line."""
    last = {event.task: event for event in found if event.kind != "progress"}
    return {task: (event.kind, str(event.content).splitlines()[-1]) for task, event in last.items()}


def wait_for_files(folder: Path, child: "subprocess.Popen[str]") -> None:
    while len(list(folder.glob("*.pid"))) < 2:
        assert child.poll() is None
        time.sleep(0.05)


def assert_gone(folder: Path) -> None:
    for file in folder.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.stem), 0)


def test_every_task_ends_once_even_if_its_process_dies() -> None:
    found = events("die", "one", "leave", "fail", "two")

    assert ends(found) == {
        0: ("lost", "was ended by SIGKILL"),
        1: ("done", "one"),
        2: ("lost", "ended with exit code 5"),
        3: ("bug", "KeyError: 'fail'"),
        4: ("done", "two"),
    }
    assert [event.content for event in found if event.task == 1] == ["at work on one", "one"]


def test_process_runs_all_tasks_of_its_group_and_none_of_another() -> None:
    found = ends(events("pid", "pid", "pid", size=1, groups="aba"))

    assert found[0] == found[2] != found[1]


def test_prints_of_the_work_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    events("talk")

    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "HELLO\n")


def test_end_of_the_block_ends_all_processes_and_removes_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    tasks = [Task(f"sleep {tmp_path}", name) for name in "ab"]

    with Workers(work, tasks, 2) as workers:
        next(workers.events())
        while not list(tmp_path.glob("*.pid")):
            time.sleep(0.05)

    assert_gone(tmp_path)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", [2, 9], ids=["SIGINT", "SIGKILL"])
def test_processes_end_with_the_program_that_started_them(tmp_path: Path, number: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    wait_for_files(tmp_path, child)

    if number == 2:
        os.killpg(child.pid, number)  # as a terminal does: to all of them
    else:
        child.kill()
    _, said = child.communicate(timeout=30)  # their end of the pipe is closed when they end

    assert child.returncode == -number
    assert said.count("Traceback") == (1 if number == 2 else 0)
    if number == 2:  # until then they may not have been collected
        assert_gone(tmp_path)

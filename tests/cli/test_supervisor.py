"""The command runs in a child process, and a crash of it ends with an error."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.cli.supervisor import SWITCH, THRESHOLDS, importing, one_press, outputs

ROOT = Path(__file__).parents[2]
# a command that is as quick as Python itself: the real `main` with a stand-in for the app
PROGRAM = """\
import os, signal, sys, time, types
app = types.ModuleType("modswap.cli.app")
def run(args):
    try:
        print(os.getpid(), flush=True)
        exec(args[-1])
    except KeyboardInterrupt:
        return 130
    return 0
app.run = run
sys.modules["modswap.cli.app"] = app
from modswap.__main__ import main
main()
"""


def start(*args: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "check", *args],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip


@pytest.fixture
def sleeping() -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Give a command that sleeps, and the number of the process that does its work."""
    parent = start("time.sleep(60)")
    assert parent.stdout is not None
    with parent:
        yield parent, int(parent.stdout.readline())
        parent.kill()


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("SIGKILL", "the system ended it (SIGKILL), as it does where memory runs out"),
        ("SIGBUS", "a file became shorter while it was read (SIGBUS)"),
        ("SIGSEGV", "torch or a module of the model crashed (SIGSEGV)"),
        ("SIGABRT", "torch or a module of the model crashed (SIGABRT)"),
    ],
)
def test_crash_is_an_error_and_leaves_no_litter(name: str, what: str, tmp_path: Path) -> None:
    made = f"open({str(tmp_path)!r} + '/.modswap-1-0123abcd.part', 'w').close()"
    crash = f"{made}; os.kill(os.getpid(), signal.{name})"

    with start("-o", str(tmp_path / "out.pt"), crash) as done:
        _, errors = done.communicate(timeout=60)

    assert done.returncode == 3
    assert errors.startswith(f"error: modswap check: {what}\n  fix: ")
    assert list(tmp_path.iterdir()) == []


def test_exit_code_and_output_are_those_of_the_child() -> None:
    with start("print('seen'); sys.exit(2)") as done:
        output, errors = done.communicate(timeout=60)

    assert (done.returncode, output.splitlines()[1:], errors) == (2, ["seen"], "")
    assert output.splitlines()[0] != str(done.pid)


def test_switch_keeps_the_command_in_one_process() -> None:
    with start("None", **{SWITCH: "1"}) as done:
        output, _ = done.communicate(timeout=60)

    assert output == f"{done.pid}\n"


def test_help_is_printed_by_the_process_itself() -> None:
    with start("--help", "None") as done:
        output, _ = done.communicate(timeout=60)

    assert output == f"{done.pid}\n"


@pytest.mark.parametrize("group", [False, True], ids=["to the parent", "to both, as a terminal"])
def test_interruption_ends_with_130(
    sleeping: tuple["subprocess.Popen[str]", int], *, group: bool
) -> None:
    parent, _ = sleeping

    (os.killpg if group else os.kill)(parent.pid, signal.SIGINT)

    _, errors = parent.communicate(timeout=60)
    assert (parent.returncode, errors) == (130, "")


def test_signal_after_the_end_of_the_child_changes_nothing() -> None:
    late = "import os, signal\nwait = os.waitpid\ndef waitpid(*args):\n    seen = wait(*args)\n"
    late += "    signal.raise_signal(signal.SIGINT)\n    return seen\nos.waitpid = waitpid\n"

    done = subprocess.run(
        [sys.executable, "-c", late + PROGRAM, "check", "None"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("place", ["modswap.cli.supervisor", "modswap.cli.app"])
def test_interruption_while_the_command_is_imported_ends_with_130(place: str) -> None:
    press = f"""\
import os, signal, sys
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {place!r} and "modswap.__main__" in sys.modules:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Press())
import modswap.__main__
modswap.__main__.main()
"""

    reader, writer = os.pipe()  # a recipe that never comes
    done = subprocess.run(
        [sys.executable, "-c", press, "check", "net.pt", "-c", "-"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=reader,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(reader)
    os.close(writer)

    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_that_ends_the_child_ends_the_parent(
    number: signal.Signals, sleeping: tuple["subprocess.Popen[str]", int]
) -> None:
    parent, child = sleeping

    parent.send_signal(number)

    assert parent.wait(timeout=60) == -number
    assert not is_running(child)


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no signal of a parent's death")
def test_child_ends_where_its_parent_was_killed(
    sleeping: tuple["subprocess.Popen[str]", int],
) -> None:
    parent, child = sleeping

    parent.kill()
    parent.wait(timeout=60)

    for _ in range(200):
        if not is_running(child):
            return
        time.sleep(0.05)
    pytest.fail("the child still runs")


def is_running(number: int) -> bool:
    stat = Path(f"/proc/{number}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("swallows", [True, False], ids=["swallowed", "endless"])
def test_interruption_during_an_import_ends_with_130(*, swallows: bool, tmp_path: Path) -> None:
    body = "try:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException: pass\n"
    (tmp_path / "library.py").write_text(
        f"import signal, time\n{body}" if swallows else f"import signal, time\n{body}time.sleep(60)"
    )
    program = f"sys.path.insert(0, {str(tmp_path)!r}); import library; time.sleep(60)"

    began = time.monotonic()
    with start(program) as done:
        _, errors = done.communicate(timeout=50)

    assert (done.returncode, errors) == (130, "")
    assert time.monotonic() - began < 50


def test_two_interruptions_within_a_second_are_one() -> None:
    interrupt = one_press()

    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT, None)
    interrupt(signal.SIGINT, None)  # the same press, passed on


def test_folders_of_written_files_are_found_in_a_call(tmp_path: Path) -> None:
    args = ["replace", "net.pt", "-o", f"{tmp_path}/a/out.pt", f"--report={tmp_path}/b/r.json"]

    assert outputs(args) == [tmp_path / "a", tmp_path / "b"]
    assert outputs(["replace", "net.pt", f"-o{tmp_path}/c/out.pt"]) == [tmp_path / "c"]


@pytest.mark.parametrize(
    "option", ["--plot", "--resume", "--save-recipe", "--save-outputs", "--standalone", "--routing"]
)
def test_every_option_that_names_a_written_file_is_an_output(option: str, tmp_path: Path) -> None:
    assert outputs(["sweep", "net.pt", option, f"{tmp_path}/a/x"]) == [tmp_path / "a"]


@pytest.mark.parametrize("own", [True, False])
def test_imports_are_left_out_of_searches_for_garbage(own: bool) -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        gc.set_threshold(*(THRESHOLDS if own else (700, 10, 10)))
        with importing():
            enabled = gc.isenabled()

        assert enabled is not own
        assert gc.isenabled()
        assert (gc.get_freeze_count() > frozen) is own
    finally:
        gc.set_threshold(*before)


@pytest.mark.slow
def test_check_says_nothing_on_standard_error(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)), tmp_path / "net.pt")

    done = subprocess.run(
        [sys.executable, "-m", "modswap", "check", "net.pt", "--match", "1", "--with", "ECA"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    # libraries in C++ complain at the end of a process that leaves objects out of its last search
    assert (done.returncode, done.stderr) == (0, "")

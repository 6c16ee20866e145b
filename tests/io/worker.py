"""A process that runs the command many times over, and measures what each run takes.

torch is imported once. A run that kills the process, or takes too long, is that run's failure; the
next one has a new process.
"""

import contextlib
import faulthandler
import gc
import io
import json
import os
import resource
import runpy
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.advice import refuse_foreign_options

ROOT = Path(__file__).parents[2]
LIMIT = 6 << 30  # bytes of addresses beyond those of the process at its start
_START = 300  # seconds that importing torch may take on a busy machine


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended.

    Args:
        code: The exit code; None if the process died or had to be stopped.
        err: What it wrote on standard error, or how it died.
        out: What it wrote on standard output.
        seconds: Processor time that it took; that of other programs does not count.
        grown: Bytes of memory that it took at its peak, beyond that of its start.
    """

    code: int | None
    err: str
    out: str = ""
    seconds: float = 0
    grown: int = 0


class Worker:
    """A process for runs of the command; it starts at the first one.

    Args:
        warm: Whether it imports torch and runs every command once before it is measured.
    """

    def __init__(self, *, warm: bool = True) -> None:
        self._warm = warm
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Any = None

    def run(self, args: Sequence[str], folder: Path, *, seconds: float) -> Ran:
        """Run the command in a folder.

        Args:
            args: Its arguments; `load FILE` means `modswap.load(FILE)`, `python FILE` runs a file.
            folder: Where it runs.
            seconds: After which it is stopped.
        """
        process = self._started()
        self._ask(process, {"args": list(args), "folder": str(folder)})
        answer = self._answer(process, seconds)
        if answer is not None:
            return Ran(**answer)
        return Ran(None, self._end(process, seconds), seconds=seconds)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self._log.close()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.io.worker", *(["warm"] if self._warm else [])],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
            )
            answer = self._answer(self._process, _START)
            assert answer == "ready", self._end(self._process, _START)
        return self._process

    @staticmethod
    def _ask(process: "subprocess.Popen[bytes]", question: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()

    @staticmethod
    def _answer(process: "subprocess.Popen[bytes]", seconds: float) -> Any:
        """Return what the process answers; None if it dies or takes too long."""
        assert process.stdout is not None
        end = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(end - time.monotonic(), 0))
            piece = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not piece:
                return None
            line += piece
        return json.loads(line)

    def _end(self, process: "subprocess.Popen[bytes]", seconds: float) -> str:
        """End a process that has not answered; return why."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        died = process.returncode
        self._log.seek(0)
        tail = self._log.read()[-2000:].decode("utf-8", "replace")
        self.close()
        return f"it died ({died}): {tail}" if died is not None else f"took over {seconds} s"


# -- inside the process


def _memory(key: str) -> int:
    """Return bytes of memory that the process has, or had at its peak."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) << 10


def _run(args: Sequence[str]) -> int:
    if args[0] == "python":
        runpy.run_path(args[1])
        return 0
    from modswap.cli.app import run

    return _load(args[1]) if args[0] == "load" else run(args)


def _load(file: str) -> int:
    import modswap
    from modswap.cli.session import Session
    from modswap.core.errors import ModswapError
    from tests.io.corpus.case import FACTORY

    try:
        modswap.load(file, model=FACTORY)
    except ModswapError as error:
        Session().complain(error)
        return error.code
    except Exception:  # noqa: BLE001 - as the command does
        traceback.print_exc()
        return 70
    return 0


def _measured(args: Sequence[str], folder: str) -> dict[str, Any]:
    os.chdir(folder)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begin = _memory("VmRSS"), time.process_time()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _run(args)
    taken = time.process_time() - begin
    grown = max(_memory("VmHWM") - before, 0)
    said = {"err": err.getvalue(), "out": out.getvalue()}
    return {"code": code, **said, "seconds": taken, "grown": grown}


def _warm_up() -> None:
    """Do everything once with a sound file, so that what is imported is not measured."""
    import torch

    from tests.io.corpus.case import FILE, RECIPE, SWAP, Case, net

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        torch.save(net(), FILE)
        Path(RECIPE).write_text(SWAP)
        case = Case("sound", b"", "")
        for command in case.commands:
            ran = _measured(case.args(command), folder)
            assert ran["code"] == 0, ran["err"]
        os.chdir(ROOT)


def main(answers: BinaryIO) -> None:
    """Answer questions until there are none."""
    faulthandler.enable()
    refuse_foreign_options(pytest.MonkeyPatch())
    if "warm" in sys.argv:
        _warm_up()
    gc.freeze()  # what was imported is not looked through for each run
    addresses = _memory("VmSize") + LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
    answers.write(b'"ready"\n')
    answers.flush()
    for line in sys.stdin.buffer:
        question = json.loads(line)
        answer = _measured(question["args"], question["folder"])
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # other prints are no answer
    main(stream)

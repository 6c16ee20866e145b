"""Checking recipes: one in this process, several in processes of their own; no torch until then."""

import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import ModuleType
from typing import TYPE_CHECKING, Any

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import CheckpointError, ModswapError, UsageError
from modswap.core.kept.outcome import Outcome
from modswap.core.progress import Progress

if TYPE_CHECKING:
    from modswap.core.asked.recipe import Recipe, TensorInput

PATIENCE = 10.0  # seconds in which a process that closed its pipe has to end
GRACE = 2.0  # seconds in which one that is asked to end may end what it started itself


@dataclass(frozen=True, slots=True)
class Request:
    """A recipe to be checked.

    Args:
        recipe: Its file, or `-` for standard input.
        file: The checkpoint; None for the recipe's own.
        policy: What the checkpoint may build.
        factory: What builds the model, from the command line, or None.
        inputs: One dummy call from the command line; empty: the recipe's.
        thorough: Whether everything is examined.
        fix: Whether the recipe is changed where a small change makes it hold.
        max_memory: Bytes that a dummy pass may take.
    """

    recipe: str
    file: Path | None = None
    policy: Policy = field(default_factory=Policy)
    factory: str | None = None
    inputs: "tuple[TensorInput, ...]" = ()
    thorough: bool = False
    fix: bool = False
    max_memory: int | None = None

    @property
    def folder(self) -> Path:
        """Return the folder in which the recipe's own names are looked up."""
        return Path(self.recipe).resolve().parent


def job_of(request: Request) -> Job:
    """Return the check that a request asks for, its recipe read.

    Raises:
        ModswapError: If the recipe cannot be read, is wrong, or names no checkpoint where the
            request does not either.
    """
    from modswap.ops.recipes import read_recipe

    recipe = read_recipe(request.recipe)
    file = request.file or _own_checkpoint(recipe)
    subject = Subject(file, request.policy, request.factory, request.inputs)
    return Job(subject, recipe, thorough=request.thorough, max_memory=request.max_memory)


def _own_checkpoint(recipe: "Recipe") -> Path:
    name = recipe.source.name
    if recipe.checkpoint is None:
        fix = f"add `checkpoint: …` to it, or call `modswap check FILE -c {name}`"
        raise UsageError("the recipe names no checkpoint", name, fix)
    return Path(recipe.source.folder, recipe.checkpoint)


def check_one(request: Request, progress: Progress) -> Outcome:
    """Check a recipe in this process; what stops it is in the outcome's `error`.

    Args:
        request: What to check.
        progress: Told what is being done.
    """
    from modswap.ops.jobs.repair import check_and_mend

    checkpoint = str(request.file or "")
    try:
        job = job_of(request)
        checkpoint = str(job.subject.file)
        return check_and_mend(job, progress, fix=request.fix)
    except ModswapError as error:
        return Outcome("check", checkpoint, request.recipe, error=error)


def check_many(requests: Sequence[Request], jobs: int, progress: Progress) -> tuple[Outcome, ...]:
    """Check recipes in several processes at once; return the outcomes in the order given.

    A recipe whose process dies has failed, and the others go on. If this raises, whatever it is,
    no process is left, and none of their temporary files.

    Args:
        requests: What to check.
        jobs: How many processes there may be at once.
        progress: Told what is being done.

    Raises:
        RuntimeError: If a process met a bug of ours, with its traceback.
    """
    with TemporaryDirectory(prefix="modswap-", ignore_cleanup_errors=True) as scratch:
        crew = _Crew(requests, min(jobs, len(requests)), progress, scratch)
        try:
            return crew.outcomes()
        finally:
            crew.dismiss()


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """One process, which checks one recipe after the other."""

    def __init__(self, folder: Path, threads: int, scratch: str) -> None:
        # not forked: the state of a process with threads cannot be copied
        context = get_context("spawn")
        self.folder = folder
        self.turn = -1  # number of the request that it works on; -1 for none
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads, scratch))
        with _no_main():
            self.process.start()
        theirs.close()  # so that the pipe ends with the process

    def ask(self, turn: int, request: Request) -> None:
        """Have a request worked on."""
        self.turn = turn
        with suppress(OSError):  # a process that is dead is noticed where its answer is read
            self.pipe.send(request)

    def ended(self) -> str:
        """Return in words how the process ended."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        if code is None:
            return "its process closed its pipe and did not end"
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"its process was ended by {name}"

    def stop(self) -> None:
        """Ask the process to end, and whatever it started."""
        self.process.terminate()

    def bury(self) -> None:
        """Have the process end at once, and wait for it."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Crew:
    """Processes at work on requests."""

    def __init__(
        self, requests: Sequence[Request], size: int, progress: Progress, scratch: str
    ) -> None:
        self._requests = requests
        self._scratch = scratch
        self._size = size
        self._progress = progress
        self._threads = max(1, cores() // size)
        self._waiting = list(range(len(requests)))
        self._workers: list[_Worker] = []
        self._done: dict[int, Outcome] = {}

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return what became of every request, in their order."""
        while len(self._done) < len(self._requests):
            while self._waiting and len(self._workers) < self._size:
                self._employ()
            pipes = {worker.pipe: worker for worker in self._workers}
            for pipe in wait(list(pipes)):
                self._hear(pipes[pipe])  # type: ignore[index] # they are our own
        return tuple(self._done[turn] for turn in range(len(self._requests)))

    def _employ(self) -> None:
        turn = self._waiting.pop(0)
        with _interrupts_kept_from_children():  # until it is known, so that it can be ended
            worker = _Worker(self._requests[turn].folder, self._threads, self._scratch)
            self._workers.append(worker)
        worker.ask(turn, self._requests[turn])

    def _hear(self, worker: _Worker) -> None:
        """Take in what a process tells, or that it died."""
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            self._lose(worker)
            return
        if kind == "bug":
            raise RuntimeError(f"while {self._requests[worker.turn].recipe} was checked\n{content}")
        if kind == "progress":
            self._progress(f"{self._requests[worker.turn].recipe}: {content}")
            return
        self._done[worker.turn] = content
        self._next(worker)

    def _next(self, worker: _Worker) -> None:
        """Give a free process what waits in its folder, or let it go.

        Python imports a module once: `nets.py` of one folder would stand for that of another.
        """
        same = (turn for turn in self._waiting if self._requests[turn].folder == worker.folder)
        turn = next(same, None)
        if turn is None:
            self._release(worker)
            return
        self._waiting.remove(turn)
        worker.ask(turn, self._requests[turn])

    def _lose(self, worker: _Worker) -> None:
        request = self._requests[worker.turn]
        how = worker.ended()
        fix = f"check it alone to see why: `modswap check {request.recipe}`"
        if how.endswith("SIGKILL"):
            how += ", as the system does where memory runs out"
            fewer = "check fewer at once: `--jobs 1`"
            fix = fewer if self._size > 1 else "give it more memory"
        error = CheckpointError(how, request.recipe, fix)
        self._done[worker.turn] = Outcome(
            "check", str(request.file or ""), request.recipe, error=error
        )
        self._release(worker)

    def _release(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.bury()

    def dismiss(self) -> None:
        """End all processes at once."""
        until = time.monotonic() + GRACE
        try:
            for worker in self._workers:
                worker.stop()
            for worker in self._workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:  # a second Ctrl-C ends the wait, and no process is left all the same
            for worker in self._workers:
                worker.bury()


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Keep Ctrl-C, which a terminal sends to all processes, from those that a block starts.

    They would each print a traceback; this process ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - Windows
        yield
        return
    resource_tracker.ensure_running()  # else it starts in the block, and lets them in
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_main() -> Iterator[None]:
    """Keep processes that a block starts from running the program's own file once more.

    They need nothing of it, and not every program minds that it may be run so.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: "Connection[Any, Any]", threads: int, scratch: str) -> None:
    """Answer requests until there are no more; runs in a process of its own."""
    Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _leave)
    tempfile.tempdir = os.environ["TMPDIR"] = scratch  # for what it starts as well
    sys.stdout = sys.stderr  # what a model's code prints is no report
    warnings.filterwarnings("ignore", "Failed to initialize NumPy", UserWarning)
    with suppress(EOFError, OSError):  # whoever asked has gone
        _limit(threads)
        while True:
            pipe.send(_answer(pipe.recv(), pipe))


def _leave(number: int, frame: object) -> None:
    """End this process; on the way out it ends what it started and removes what it wrote."""
    del frame
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, whatever killed it."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _limit(threads: int) -> None:
    import torch

    torch.set_num_threads(min(threads, torch.get_num_threads()))


def _answer(request: Request, pipe: "Connection[Any, Any]") -> tuple[str, Any]:
    try:
        return "done", check_one(request, lambda text: pipe.send(("progress", text)))
    except Exception:  # noqa: BLE001 - a bug of ours; it is told where the others are
        return "bug", traceback.format_exc()

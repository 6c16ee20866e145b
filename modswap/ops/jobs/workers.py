"""Worker processes that run tasks at the same time and send back events; imports no torch."""

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from tempfile import TemporaryDirectory
from threading import Thread
from types import ModuleType
from typing import Any, Literal, Self

from modswap.core.progress import Progress
from modswap.core.words.unhelpful_warnings import ignore_unhelpful_warnings

EXIT_TIMEOUT_SECONDS = 10.0  # for a process that closed its pipe to end
TERMINATE_TIMEOUT_SECONDS = 2.0  # for a process to end its own child processes
Work = Callable[[Any, Progress], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A task for a worker process."""

    argument: Any  # first argument of the work function; it is pickled
    group: str  # a process runs tasks of the same group only


@dataclass(frozen=True, slots=True)
class Event:
    """A message about a task."""

    task: int  # index of the task
    # `progress` comes any number of times; each of the others ends the task
    kind: Literal["progress", "done", "bug", "lost"]
    # a line of progress, the result, the traceback of an exception, or in words how the process
    # ended
    content: Any


def cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Processes that run tasks; a context at whose end no process and no temporary file is left.

    Args:
        work: Called in a worker with a task's argument and a function for progress.
        tasks: The tasks, in the order in which they are started.
        size: The most processes to run at once.
    """

    def __init__(self, work: Work, tasks: Sequence[Task], size: int) -> None:
        self._work = work
        self._tasks = tasks
        self._size = size
        self._waiting = list(range(len(tasks)))
        self._workers: list[_Worker] = []
        self._scratch = TemporaryDirectory(prefix="modswap-", ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop_all()
        finally:
            self._scratch.cleanup()

    def events(self) -> Iterator[Event]:
        """Run all tasks and yield their events as they come."""
        while self._waiting or self._workers:
            while self._waiting and len(self._workers) < self._size:
                self._start_worker()
            pipes = {worker.pipe: worker for worker in self._workers}
            for pipe in wait(list(pipes)):
                worker = pipes[pipe]  # type: ignore[index] # `wait` returns the pipes it was given
                event = worker.receive()
                yield event
                if event.kind == "done":
                    self._assign_next_task(worker)
                elif event.kind != "progress":
                    self._remove(worker)

    def _start_worker(self) -> None:
        task = self._waiting.pop(0)
        with _interrupts_blocked():  # until the list holds the worker, so that it can be stopped
            worker = _Worker(self._tasks[task].group, self._work, self._scratch.name)
            self._workers.append(worker)
        worker.send(task, self._tasks[task].argument)

    def _assign_next_task(self, worker: "_Worker") -> None:
        """Send a free worker the next task of its group; stop it if there is none."""
        same = (task for task in self._waiting if self._tasks[task].group == worker.group)
        task = next(same, None)
        if task is None:
            self._remove(worker)
            return
        self._waiting.remove(task)
        worker.send(task, self._tasks[task].argument)

    def _remove(self, worker: "_Worker") -> None:
        self._workers.remove(worker)
        worker.kill()

    def _stop_all(self) -> None:
        """Terminate all processes, and kill those that do not end in time."""
        until = time.monotonic() + TERMINATE_TIMEOUT_SECONDS
        try:
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        finally:  # a second Ctrl-C ends the wait; the processes are killed all the same
            for worker in self._workers:
                worker.kill()


class _Worker:
    """A process that runs one task after the other."""

    def __init__(self, group: str, work: Work, scratch: str) -> None:
        # not forked, as the state of a process with threads cannot be copied
        context = get_context("spawn")
        self.group = group
        self.task = -1  # index of the task that it runs
        self.pipe, child_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(child_end, work, scratch))
        with _main_module_hidden():
            self.process.start()
        child_end.close()  # so that the pipe ends with the process

    def send(self, task: int, argument: Any) -> None:
        """Start a task in the process."""
        self.task = task
        with suppress(OSError):  # the end of a dead process is noticed by `receive`
            self.pipe.send(argument)

    def receive(self) -> Event:
        """Return the next event of the task, or the event that the process ended."""
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            return Event(self.task, "lost", self._exit_reason())
        return Event(self.task, kind, content)

    def _exit_reason(self) -> str:
        self.process.join(EXIT_TIMEOUT_SECONDS)
        code = self.process.exitcode
        if code is None:
            return "closed its pipe and did not end"
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"was ended by {name}"

    def kill(self) -> None:
        """Kill the process and wait for its end."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C, which a terminal sends to all processes, in processes that a block starts.

    Each process would print a traceback; this process stops them instead.
    """
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - Windows
        yield
        return
    resource_tracker.ensure_running()  # started inside the block, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep processes that a block starts from running the program's main file again.

    They need nothing of it, and not every main file can be run again.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: "Connection[Any, Any]", work: Work, scratch: str) -> None:
    """Run the tasks that come through a pipe until it is closed; runs in a worker process."""
    Thread(target=_exit_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _exit_on_signal)
    tempfile.tempdir = os.environ["TMPDIR"] = scratch  # for child processes as well
    sys.stdout = sys.stderr  # output of a model's code does not belong in the report
    ignore_unhelpful_warnings()
    with suppress(EOFError, OSError):  # the process that started this one has ended
        while True:
            pipe.send(_run(work, pipe.recv(), pipe))


def _run(work: Work, argument: Any, pipe: "Connection[Any, Any]") -> tuple[str, Any]:
    try:
        return "done", work(argument, lambda text: pipe.send(("progress", text)))
    except Exception:  # noqa: BLE001 - a bug of modswap; the process that started this one reports it
        return "bug", traceback.format_exc()


def _exit_on_signal(number: int, frame: object) -> None:
    """Exit in order: end child processes and remove temporary files."""
    del frame
    raise SystemExit(128 + number)


def _exit_with_parent() -> None:
    """Exit when the process that started this one has ended, even if it was killed."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

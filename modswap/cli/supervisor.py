"""Run the command in a child process, so that a crash ends with an error and not without a word.

What a file can still do to a process cannot be caught inside it: an overflow of the C stack, a
mapped file that becomes shorter, the system's lack of memory. The parent imports nothing, waits,
passes signals on, and ends as the child ended.
"""

import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

COMPLETING = "_MODSWAP_COMPLETE"  # a shell asks for words that a command may have
SWITCH = "MODSWAP_ONE_PROCESS"  # set to 1, it keeps the command in one process, for debuggers
CRASHED = 3
STOPPED = 130
_ONE_PRESS_SECONDS = 1.0
_IMPORT_SECONDS = 3.0  # that an interruption waits for the end of an import
_AGAIN_SECONDS = 0.02
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of Linux
# of the garbage collection in a process of the command: a model of a thousand modules is many
# objects and no garbage, and looking less often saves seconds
THRESHOLDS = (20_000, 10, 10)
_HELP = frozenset(("-h", "--help", "--version"))
_OUTPUTS = (
    "-o", "--output", "--report", "--save-recipe", "--save-outputs", "--plot", "--resume",
    "--routing", "--standalone",
)  # fmt: skip
_STOPS = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE")
_KNOWN = {
    "SIGKILL": (
        "the system ended it (SIGKILL), as it does where memory runs out",
        "close other programs, or use a machine with more memory",
    ),
    "SIGBUS": (
        "a file became shorter while it was read (SIGBUS)",
        "run it again while no other program writes to the checkpoint",
    ),
}
_RANKED = "TORCHELASTIC_RUN_ID"  # set by torchrun, which stops all processes when one ends
_TRACE = f"for the place in the code: `{SWITCH}=1 python -X faulthandler -m modswap …`"


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Leave all that a block imports out of this and later searches for garbage.

    Imports are many objects and no garbage. In a process that somebody else began, nothing is done.
    """
    if gc.get_threshold() != THRESHOLDS:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def supervise(args: Sequence[str]) -> None:
    """Return in a child process that does the work; the parent waits for it and ends as it ends.

    Without a fork (Windows, a call for help, the switch) the process itself returns.
    """
    if _stays_alone(args):
        return
    passed = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError:  # no process is left: work without a supervisor
        child = 0
    if child == 0:
        _become_child(parent, passed)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    for number in passed:
        signal.signal(number, _passing_on(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _, status = os.waitpid(child, 0)
    end(os.waitstatus_to_exitcode(status), args)


def _stays_alone(args: Sequence[str]) -> bool:
    asked = not args or bool(_HELP.intersection(args)) or os.environ.get(SWITCH) == "1"
    return asked or COMPLETING in os.environ or not hasattr(os, "fork")


def _become_child(parent: int, passed: Sequence[signal.Signals]) -> None:
    if signal.SIGINT in passed:
        signal.signal(signal.SIGINT, one_press())
    if sys.platform != "linux" or os.getpid() == parent:
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before
        os._exit(CRASHED)


def one_press() -> Callable[[int, FrameType | None], None]:
    """Return a handler of SIGINT that takes two signals within a second as one.

    A terminal sends Ctrl-C to child and parent, and the parent passes it on. While a module is
    imported the interruption waits for the end of the import, for a short time: libraries catch all
    that is raised there, or stay half imported.
    """
    last = -_ONE_PRESS_SECONDS

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        again, last = now - last < _ONE_PRESS_SECONDS, now
        if not again:
            _interrupt(frame, now + _IMPORT_SECONDS)

    return interrupt


def _interrupt(frame: FrameType | None, latest: float) -> None:
    """Raise a KeyboardInterrupt, after the import that runs but no later than at a time."""
    if time.monotonic() > latest or not _imports(frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, lambda _number, later: _interrupt(later, latest))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _imports(frame: FrameType | None) -> bool:
    """Return whether a frame is within the import of a module."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _passing_on(child: int) -> Callable[[int, FrameType | None], None]:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended, and its code is known
            os.kill(child, number)

    return pass_on


def end(code: int, args: Sequence[str]) -> NoReturn:
    """End the process with an exit code, or as the signal whose number is negative ends it.

    A signal that stops a command ends the parent as well; any other is an error of its own.
    """
    if code >= 0:
        os._exit(code)
    names = {member.value: member.name for member in signal.Signals}
    name = names.get(-code, f"signal {-code}")
    _remove_litter(args)
    if name == "SIGINT":  # it came once more while the child ended
        os._exit(STOPPED)
    if name in _STOPS:
        if name == "SIGTERM" and _RANKED in os.environ:
            from modswap.cli.ranks import BY_TORCHRUN

            _say(args, *BY_TORCHRUN)
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    what, fix = _KNOWN.get(name, (f"torch or a module of the model crashed ({name})", _TRACE))
    _say(args, what, fix)
    os._exit(CRASHED)


def _say(args: Sequence[str], what: str, fix: str) -> None:
    """Print an error; of several processes one does."""
    if _RANKED in os.environ:
        from modswap.cli.ranks import may_complain

        if not may_complain():
            return
        what += f" (rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')})"
    command = next((arg for arg in args if not arg.startswith("-")), "")
    os.write(2, f"error: modswap {command}: {what}\n  fix: {fix}\n".encode("utf-8", "replace"))


def _remove_litter(args: Sequence[str]) -> None:
    """Remove the temporary files that the child left beside the files that it was to write."""
    from modswap.io.raw.litter import remove_litter

    for place in outputs(args):
        remove_litter(place)


def outputs(args: Sequence[str]) -> "list[Path]":
    """Return the folders of the files that a command is asked to write."""
    from pathlib import Path

    named = [value for arg, value in pairwise(args) if arg in _OUTPUTS]
    named += [arg.partition("=")[2] for arg in args if arg.startswith(_OUTPUTS) and "=" in arg]
    named += [arg[2:] for arg in args if arg.startswith("-o") and len(arg) > 2]
    return sorted({Path(name).absolute().parent for name in named})

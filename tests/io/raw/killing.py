"""A process that runs the command in children, and stops each at a chosen system call.

The children are forked with torch and modswap loaded, and traced by `ptrace`. A call that changes
files counts as a step; at a step the child is killed before the call is made, or the call fails
with a chosen error.
"""

import contextlib
import ctypes
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
_TRACEME, _POKEUSER, _SYSCALL, _SETOPTIONS, _INFO = 0, 6, 24, 0x4200, 0x420E
# marks stops at calls, follows threads and children, kills all of them with their tracer
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x100000
_ANY_CHILD = 0x40000000
_ENTRY, _EXIT = 1, 2
_NUMBER_PLACE, _RESULT_PLACE = 120, 80  # of the registers, on x86_64
_CALLS: dict[str, dict[int, str]] = {
    "x86_64": {
        1: "write", 2: "open", 18: "pwrite64", 20: "writev", 40: "sendfile", 73: "flock",
        74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir",
        84: "rmdir", 85: "creat", 86: "link", 87: "unlink", 88: "symlink", 90: "chmod",
        91: "fchmod", 257: "openat", 258: "mkdirat", 263: "unlinkat", 264: "renameat",
        265: "linkat", 266: "symlinkat", 268: "fchmodat", 277: "sync_file_range",
        285: "fallocate", 296: "pwritev", 316: "renameat2", 326: "copy_file_range",
        452: "fchmodat2",
    },
    "aarch64": {
        32: "flock", 34: "mkdirat", 35: "unlinkat", 36: "symlinkat", 37: "linkat", 38: "renameat",
        45: "truncate", 46: "ftruncate", 47: "fallocate", 52: "fchmod", 53: "fchmodat",
        56: "openat", 64: "write", 66: "writev", 68: "pwrite64", 70: "pwritev", 71: "sendfile",
        82: "fsync", 83: "fdatasync", 84: "sync_file_range", 276: "renameat2",
        285: "copy_file_range", 452: "fchmodat2",
    },
}  # fmt: skip
CALLS = _CALLS.get(platform.machine(), {})


@dataclass(frozen=True, slots=True)
class Ended:
    """How a traced run ended.

    Args:
        code: Its exit code; None if it was killed.
        steps: The calls that changed files, in their order; the last one was not made or failed.
        said: What it wrote on its outputs.
    """

    code: int | None
    steps: tuple[str, ...]
    said: str


class Killer:
    """A process whose children are traced.

    Args:
        command: Whether they can run the command, with torch and modswap loaded before; else they
            can put things in their place alone.
    """

    def __init__(self, *, command: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.io.raw.killing", *(["command"] if command else [])],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400", "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(
        self,
        args: Sequence[object],
        *,
        kill: int = 0,
        fail: tuple[int, int] = (0, 0),
        exchange: bool = True,
    ) -> Ended:
        """Run the command.

        Args:
            args: Its arguments; `put WHAT OUT` puts a new file or folder in its place.
            kill: The step before which it is killed; 0 for none.
            fail: A step, and the number of the error that this call gives.
            exchange: Whether the system can exchange two folders.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"args": [*map(str, args)], "kill": kill, "fail": fail, "exchange": exchange}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(answer["code"], tuple(answer["steps"]), answer["said"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(entry.name for entry in folder.iterdir())


def why_not() -> str:
    """Return why no process can be traced here; empty where one can."""
    if sys.platform != "linux" or not CALLS:
        return f"no numbers of system calls for {sys.platform} on {platform.machine()}"
    program = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, None, None) != 0)"
    done = subprocess.run([sys.executable, "-c", program], check=False)
    return "the system does not permit ptrace" if done.returncode else ""


# -- inside the process


def _libc() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    library.ptrace.restype = ctypes.c_long
    return library


class _Info(ctypes.Structure):
    """A stop at a system call, as the system describes it."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("padding", ctypes.c_uint8 * 7),
        ("places", ctypes.c_uint64 * 2),
        ("number", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    )


def _is_step(info: _Info) -> str:
    """Return the name of a call that changes files, and nothing for any other."""
    name = CALLS.get(info.number, "")
    if name in {"open", "openat"}:
        return name if info.args[2 if name == "openat" else 1] & os.O_CREAT else ""
    return "" if name in {"write", "writev"} and info.args[0] in {1, 2} else name


class _Tracer:
    """Follow a child to its end."""

    def __init__(self, child: int, kill: int, fail: tuple[int, int]) -> None:
        self.child, self.kill, self.fail = child, kill, fail
        self.steps: list[str] = []
        self.failing: set[int] = set()
        self.libc = _libc()

    def follow(self) -> int | None:
        """Return the exit code of the child; None if it was killed."""
        os.waitpid(self.child, 0)
        self._ptrace(_SETOPTIONS, self.child, _OPTIONS)
        self._ptrace(_SYSCALL, self.child)
        ended: int | None = None
        while True:
            try:
                task, status = os.waitpid(-1, _ANY_CHILD)
            except ChildProcessError:
                return ended
            if os.WIFSTOPPED(status):
                self._stopped(task, os.WSTOPSIG(status), status >> 16)
            elif task == self.child:
                ended = os.waitstatus_to_exitcode(status)
                ended = None if ended == -signal.SIGKILL else ended

    def _stopped(self, task: int, number: int, event: int) -> None:
        if number == signal.SIGTRAP | 0x80:
            self._at_call(task)
            number = 0
        elif event or number == signal.SIGSTOP:  # a new thread or child
            number = 0
        with contextlib.suppress(ProcessLookupError):
            self._ptrace(_SYSCALL, task, number)

    def _at_call(self, task: int) -> None:
        info = _Info()
        with contextlib.suppress(ProcessLookupError):
            self._ptrace(_INFO, task, ctypes.addressof(info), ctypes.sizeof(info))  # address, size
        if info.op == _EXIT and task in self.failing:
            self.failing.remove(task)
            self._ptrace(_POKEUSER, task, -self.fail[1], _RESULT_PLACE)
        if info.op != _ENTRY or not (name := _is_step(info)):
            return
        self.steps.append(name)
        if len(self.steps) == self.kill:
            os.kill(self.child, signal.SIGKILL)
        elif len(self.steps) == self.fail[0]:
            self.failing.add(task)
            self._ptrace(_POKEUSER, task, -1, _NUMBER_PLACE)

    def _ptrace(self, request: int, task: int, data: int = 0, place: int = 0) -> None:
        if self.libc.ptrace(request, task, place, data) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _run(args: Sequence[str]) -> int:
    if args[0] == "put":
        return _put(args[1] == "folder", Path(args[2]))
    from modswap.cli.app import run

    return run(args)


def _put(folder: bool, out: Path) -> int:
    """Put something new in its place; return the exit code of the command for an error."""
    from modswap.core.errors import CheckpointError
    from modswap.io.raw.atomic import replacing

    try:
        with replacing(out, force=True, folder=folder) as place:
            if folder:
                (place / "sub").mkdir()
            for file in NEW if folder else ("",):
                (place / file).write_text("new")
    except CheckpointError as error:
        sys.stdout.write(str(error))
        return error.code
    return 0


def _run_child(asked: Any, log: int) -> None:
    """Run the command in a child, which ends with it."""
    code = 70
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        from modswap.io.raw import folder_swap

        if not asked["exchange"]:
            folder_swap.WAYS = ()
        _libc().ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        code = _run(asked["args"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def _answer(asked: Any) -> dict[str, Any]:
    with tempfile.TemporaryFile() as log:
        child = os.fork()
        if not child:
            _run_child(asked, log.fileno())
        tracer = _Tracer(child, asked["kill"], tuple(asked["fail"]))
        code = tracer.follow()
        log.seek(0)
        said = log.read().decode("utf-8", "replace")
    return {"code": code, "steps": tracer.steps, "said": said}


def _warm_up() -> None:
    """Swap once, so that a child imports nothing more."""
    import torch
    from safetensors.torch import save_file

    from modswap.cli.app import run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        save_file({"gate.weight": torch.ones(8, 8, 1, 1)}, folder / "in" / "model.safetensors")
        (folder / "swap.yaml").write_text(RECIPE)
        code = run(swap_args(folder))
        assert code == 0


NEW = ("a", "sub/b")  # files of a folder that is put in its place
RECIPE = "version: 1\nreplace: [{match: gate, with: SEBlock, layout: NCHW, args: {channel: 8}}]\n"


def swap_args(folder: Path, end: str = "") -> list[str]:
    """Return the arguments that swap `in` to `out` in a folder; `end` is the ending of both."""
    places = (f"in{end}", "-c", "swap.yaml", "-o", f"out{end}")
    named = [place if place.startswith("-") else str(folder / place) for place in places]
    return ["replace", *named, "--no-forward", "--force"]


def main() -> None:
    """Answer questions until there are none."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        import modswap.io.raw.atomic  # noqa: F401 - for the children

        if "command" in sys.argv:
            _warm_up()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""Close off the network, files, programs and pickles while code of a library builds a model."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from modswap.core.errors import NAME_A_FACTORY, UnsafeError

_PROGRAMS = frozenset({
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system",
    "pty.spawn", "subprocess.Popen",
})  # fmt: skip
_WRITES = frozenset({
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.truncate", "shutil.copyfile", "shutil.move", "shutil.rmtree",
})  # fmt: skip
_NETWORK = ("socket.", "http.", "urllib.", "ftplib.", "smtplib.", "poplib.", "imaplib.")
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SYSTEM = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/dev/random", "/etc/localtime")
_CODE = (".py", ".pyc", ".so", ".pyd", ".pth")
_OFFLINE = "HF_HUB_OFFLINE"


class ClosedError(PermissionError):
    """Code of a library asked for something that is closed off."""


@contextmanager
def closed_off(where: str) -> Iterator[None]:
    """Close off all but computing within a block, for this thread and those that it starts.

    Python's audit events tell of sockets, files, programs and pickles before they are opened. Code
    and data of installed packages may be read.

    Raises:
        UnsafeError: If the block raised after it had asked for something; `where` is its place.
    """
    gate = _gate()
    room = _Room()
    offline = os.environ.get(_OFFLINE)
    os.environ[_OFFLINE] = "1"
    gate.rooms.append(room)
    try:
        yield
    except Exception as error:
        if not room.asked:
            raise
        what = f"to build its model, {room.asked[0]}"
        fix = "say how to build the model: `--model package.module:callable`"
        raise UnsafeError(what, where, fix).with_retry(*NAME_A_FACTORY) from error
    finally:
        gate.rooms.remove(room)
        if offline is None:
            del os.environ[_OFFLINE]
        else:
            os.environ[_OFFLINE] = offline


class _Room:
    """A block: the threads outside it, and the refused requests of those in it."""

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self.others = {thread.ident for thread in threading.enumerate()} - {self.owner}
        self.asked: list[str] = []


class _Gate:
    """The hook for audit events, which cannot be taken out again; it is open without rooms."""

    def __init__(self) -> None:
        self.rooms: list[_Room] = []
        self.readable = tuple(
            f"{os.path.realpath(folder)}{os.sep}" for folder in {sys.prefix, sys.base_prefix}
        )

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.rooms:
            return
        rooms = [room for room in self.rooms if threading.get_ident() not in room.others]
        asked = self._asked(event, args) if rooms else ""
        for room in rooms if asked else ():
            room.asked.append(asked)
        if asked:
            raise ClosedError(asked)

    def _asked(self, event: str, args: tuple[Any, ...]) -> str:
        """Return what an event asks for that is closed off, in words; empty for nothing."""
        if event.startswith(_NETWORK):
            return f"it asked for the network ({event})"
        if event in _PROGRAMS:
            return f"it asked to run a program ({event})"
        if event == "pickle.find_class":
            return f"it read a pickle, which asks for {'.'.join(map(str, args))[:80]}"
        if event == "open":
            return self._opening(args[0], args[2])
        if event in _WRITES and not _is_cache(args[0]) and not _is_of_compiler(event, args[0]):
            return f"it asked to change files ({event}: {str(args[0])[:80]!r})"
        return ""

    def _opening(self, file: Any, flags: Any) -> str:
        if isinstance(file, int) or _is_cache(file):
            return ""
        path = os.path.realpath(os.fsdecode(file))
        if isinstance(flags, int) and flags & _TO_WRITE:
            return "" if path == os.devnull else f"it asked to write the file {path[:80]!r}"
        code = path.endswith(_CODE) and path.startswith(_import_folders())
        known = code or path.startswith((*self.readable, *_SYSTEM))
        return "" if known else f"it asked for the file {path[:80]!r}"


def _is_cache(file: Any) -> bool:
    """Return whether a file is one of Python's own, beside the code that it compiled."""
    return isinstance(file, str) and "__pycache__" in Path(file).parts


def _is_of_compiler(event: str, folder: Any) -> bool:
    """Return whether torch makes the empty folder of its compiler, as it does when imported."""
    if event != "os.mkdir":
        return False
    made = Path(os.fsdecode(folder)).absolute()
    own = made.name.startswith("torchinductor_")
    return own and os.path.realpath(made.parent) == os.path.realpath(tempfile.gettempdir())


def _import_folders() -> tuple[str, ...]:
    return tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in sys.path if folder)


@cache
def _gate() -> _Gate:
    """Return the hook of this process, added at the first use."""
    gate = _Gate()
    sys.addaudithook(gate)
    return gate

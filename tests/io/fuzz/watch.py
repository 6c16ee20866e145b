"""Notice what code of a file would do: run programs, open the network, import, write elsewhere.

Python reports such events to audit hooks before they happen, whoever causes them; it asks the
finders of `sys.meta_path` for each module that is not there yet.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NEVER = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile"),
    *("subprocess.Popen", "pty.spawn", "socket.", "urllib.Request", "ftplib.", "smtplib."),
    *("webbrowser.open", "ctypes.dlopen", "code.__new__", "signal.pthread_kill"),
)
# packages that modswap itself imports late; nothing of a file is among them
_OWN = (
    "modswap",
    "torch",
    "tests",
    "encodings",
    "yaml",
    "pydantic",
    "pydantic_core",
    "safetensors",
)
_WRITES = ("w", "a", "x", "+")


class RanError(BaseException):
    """Something of an input was run; no reader can take it for a fault of the file."""


_watched: list[str] = []  # the folder that may be written to, while a block is watched
_hooked: list[bool] = []


@contextmanager
def nothing_runs(folder: Path) -> Iterator[None]:
    """Raise a `RanError` in a block that runs, imports or sends something, or writes elsewhere.

    Args:
        folder: Where files may be written.
    """
    if not _hooked:
        sys.addaudithook(_judge)  # it stays for good
        _hooked.append(True)
    _watched.append(str(folder))
    sys.meta_path.insert(0, _FINDER)
    try:
        yield
    finally:
        sys.meta_path.remove(_FINDER)
        _watched.pop()


def _judge(event: str, args: tuple[Any, ...]) -> None:
    if not _watched:
        return
    if event.startswith(_NEVER):
        raise RanError(f"{event}{args!r:.200}")
    if event == "open" and _is_elsewhere(*args):
        raise RanError(f"{args[0]!r:.200} is written")


class _Finder:
    """A finder that finds nothing, and refuses packages that modswap does not import by itself."""

    @staticmethod
    def find_spec(module: str, *_: object) -> None:
        package = module.partition(".")[0]
        if package not in _OWN and package not in sys.stdlib_module_names:
            raise RanError(f"{module!r:.200} is imported")


_FINDER: Any = _Finder()


def _is_elsewhere(file: Any, mode: Any, flags: int) -> bool:
    """Return whether a file is opened to be written outside the folder."""
    writes = any(sign in mode for sign in _WRITES) if isinstance(mode, str) else flags & 3
    inside = isinstance(file, int) or str(file).startswith((*_watched, "/dev/null"))
    return bool(writes) and not inside

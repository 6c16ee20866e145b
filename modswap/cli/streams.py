"""Standard output and error whose faults are errors of the run, and not bugs of the command."""

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

from modswap.cli.session import ReportError


def use_own_streams() -> None:
    """Replace standard output and error by streams that know what to do where they fail.

    Both show as an escape what their encoding lacks. Streams that a caller put there stay as they
    are.
    """
    if type(sys.stdout) is TextIOWrapper:
        sys.stdout = _Output(*_like(sys.stdout))
    if type(sys.stderr) is TextIOWrapper:
        sys.stderr = _Messages(*_like(sys.stderr))


def fill_closed_streams() -> None:
    """Put the null device where standard input, output or error is closed.

    Otherwise the next file that is opened takes its number, and a library that prints writes there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest free number: this one
        if getattr(sys, name) is None:
            opened = open(number, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115 - kept
            setattr(sys, name, opened)


class _Output(TextIOWrapper):
    """Standard output: a full disk is an error; a reader that has gone is none."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        silence(self)
        if not isinstance(error, BrokenPipeError):
            fix = "make room there, or name a file by `--report`"
            what = f"it cannot be written: {error.strerror}"
            raise ReportError(what, "standard output", fix) from error


class _Messages(TextIOWrapper):
    """Standard error: where nobody can read a message, the run goes on without."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            silence(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            silence(self)


def silence(stream: Any) -> None:
    """Let a stream write into the null device, what it holds included."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def _like(stream: TextIOWrapper) -> tuple[Any, ...]:
    """Return the arguments of a text stream with the descriptor and the encoding of another."""
    stream.flush()
    raw = FileIO(stream.fileno(), "w", closefd=False)
    lines = stream.line_buffering or stream.write_through  # as PYTHONUNBUFFERED asks
    return BufferedWriter(raw), stream.encoding, "backslashreplace", None, lines

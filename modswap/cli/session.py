"""The state of a run of the command: its files, its report, and printing."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modswap.core.errors import BugError, CheckpointError, ModswapError
from modswap.core.progress import Progress, silent
from modswap.core.words.printable import tame, tame_lines, without_commands

if TYPE_CHECKING:
    from modswap.report.page import Page


@dataclass(slots=True)
class Session:
    """The state that the commands share, made once for each run."""

    command: str = ""  # name of the command, for reports
    checkpoint: str = ""
    recipe: str = ""
    format: str = "table"
    # the file that the report is written to, or None for standard output
    report: Path | None = None
    quiet: bool = False
    verbose: bool = False
    color: bool = True  # whether colours are allowed

    def page(self) -> "Page":
        """Return the width and the colours of a report."""
        from modswap.report.page import Page

        terminal = sys.stdout.isatty() and self.report is None
        color = terminal and self.color and not os.environ.get("NO_COLOR")
        width = shutil.get_terminal_size((100, 24)).columns
        return Page(max(width, 60), color, self.verbose)

    def progress(self) -> Progress:
        """Return a function that prints a step on standard error, if steps are shown."""
        return _print_step if self.verbose or (sys.stderr.isatty() and not self.quiet) else silent

    @contextmanager
    def guarded(self) -> Iterator[Progress]:
        """Send the prints of a model's own code to standard error; yield `progress`.

        A `ReportError` says that the report's folder does not exist, before any work is done.
        """
        if self.report is not None:
            _require_folder(self.report)
        with redirect_stdout(sys.stderr):
            yield self.progress()

    def complain(self, error: ModswapError) -> None:
        """Print an error, and the errors that came with it, on standard error."""
        red = sys.stderr.isatty() and self.color and not os.environ.get("NO_COLOR")
        label = "\x1b[1;31merror\x1b[0m" if red else "error"
        for one in error.all:
            place = f"{one.where}: " if one.where else ""
            lines = [f"{label}: {tame(place + one.what)}"]
            lines += [f"  fix: {tame(one.fix)}"] if one.fix else []
            sys.stderr.write(without_commands("".join(f"{line}\n" for line in lines)))
            if isinstance(one, BugError):
                sys.stderr.write(without_commands(tame_lines(one.traceback)))

    def emit(self, text: str) -> None:
        """Write a report to its file, or to standard output, or raise a `ReportError`."""
        if self.report is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        write_text(self.report, text)


class ReportError(CheckpointError):
    """A text file cannot be written."""


def _require_folder(file: Path) -> None:
    if not file.absolute().parent.is_dir():
        what = f"it cannot be written: {os.strerror(errno.ENOENT)}"
        raise ReportError(what, str(file), "make its folder first")


def write_text(file: Path, text: str) -> None:
    """Write a text file, or raise a `ReportError` if that fails."""
    _require_folder(file)
    try:
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReportError(f"it cannot be written: {reason}", str(file), "check it") from error


def note(text: str) -> None:
    """Print a line on standard error."""
    sys.stderr.write(without_commands(f"{tame(text)}\n"))


def _print_step(text: str) -> None:
    note(f"… {text}")

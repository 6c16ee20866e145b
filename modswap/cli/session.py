"""One run of the command: what it is about, where it prints, how it ends."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modswap.core.errors import CheckpointError, ModswapError
from modswap.core.progress import Progress
from modswap.core.words.printable import tame

if TYPE_CHECKING:
    from modswap.report.page import Page


@dataclass(slots=True)
class Session:
    """What the commands share; made once for each run.

    Args:
        command: Name of the command, for reports.
        checkpoint: The file that it works on.
        recipe: The recipe that it uses.
        format: Form of the report.
        report: File that the report goes to, or None for standard output.
        quiet: Whether to print results only where they were asked for.
        verbose: Whether to tell more.
        color: Whether colours are allowed.
    """

    command: str = ""
    checkpoint: str = ""
    recipe: str = ""
    format: str = "table"
    report: Path | None = None
    quiet: bool = False
    verbose: bool = False
    color: bool = True

    def page(self) -> "Page":
        """Return what reports are written on."""
        from modswap.report.page import Page

        terminal = sys.stdout.isatty() and self.report is None
        color = terminal and self.color and not os.environ.get("NO_COLOR")
        width = shutil.get_terminal_size((100, 24)).columns
        return Page(max(width, 60), color, self.verbose)

    def progress(self) -> Progress:
        """Return what is told of the work that goes on, on standard error."""
        shown = self.verbose or (sys.stderr.isatty() and not self.quiet)
        return _say if shown else _hush

    @contextmanager
    def guarded(self) -> Iterator[Progress]:
        """Keep what a model's own code prints out of the report; yields what is told of progress.

        Raises:
            CheckpointError: If the report's file has no folder, before any work is done.
        """
        if self.report is not None:
            _with_folder(self.report)
        with redirect_stdout(sys.stderr):
            yield self.progress()

    def show(self, *, quiet: bool, verbose: bool, no_color: bool) -> None:
        """Keep how much is to be told, and whether in colours."""
        self.quiet, self.verbose, self.color = quiet, verbose, not no_color

    def complain(self, error: ModswapError) -> None:
        """Print an error, and those that came with it, on standard error."""
        red = sys.stderr.isatty() and self.color and not os.environ.get("NO_COLOR")
        label = "\x1b[1;31merror\x1b[0m" if red else "error"
        for one in error.all:
            place = f"{one.where}: " if one.where else ""
            sys.stderr.write(f"{label}: {tame(place + one.what)}\n")
            if one.fix:
                sys.stderr.write(f"  fix: {tame(one.fix)}\n")

    def emit(self, text: str) -> None:
        """Write a report where it was asked for.

        Raises:
            CheckpointError: If the report's file cannot be written.
        """
        if self.report is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        write_text(self.report, text)


def _with_folder(file: Path) -> None:
    if not file.absolute().parent.is_dir():
        what = f"it cannot be written: {os.strerror(errno.ENOENT)}"
        raise CheckpointError(what, str(file), "make its folder first")


def write_text(file: Path, text: str) -> None:
    """Write a text file, whole.

    Raises:
        CheckpointError: If it cannot be written.
    """
    _with_folder(file)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"it cannot be written: {reason}", str(file), "check it") from error


def _say(text: str) -> None:
    sys.stderr.write(f"… {text}\n")


def _hush(text: str) -> None:
    del text

"""The state of a run of the command: its files, its report, and printing."""

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from modswap.cli.again import command_again
from modswap.cli.ranks import may_complain, prints
from modswap.core.asked import own_texts
from modswap.core.asked.used_paths import OUT, UsedPath, imported_as
from modswap.core.errors import BugError, CheckpointError, ModswapError
from modswap.core.progress import Passing, Progress, silent
from modswap.core.words.option_spelling import spelled
from modswap.core.words.printable import tame, tame_lines, without_commands

if TYPE_CHECKING:
    from modswap.report.page import Page

REPORT = "the report"
SUMMARY = "GITHUB_STEP_SUMMARY"
PASSING_SECONDS = 2.0  # between two lines on steps that pass


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
    # paths that the run reads, and those that it writes beside the report
    reads: list[UsedPath] = field(default_factory=list)
    writes: list[UsedPath] = field(default_factory=list)
    # errors that were printed before the command ended
    announced: list[ModswapError] = field(default_factory=list)
    args: tuple[str, ...] = ()  # of the command, as they were typed
    by_options: bool = False  # whether options of the command make the rule, and not a recipe

    def page(self) -> "Page":
        """Return the width and the colours of a report."""
        from modswap.report.page import Page

        terminal = sys.stdout.isatty() and self.report is None
        color = terminal and self.color and not os.environ.get("NO_COLOR")
        width = shutil.get_terminal_size((100, 24)).columns
        # a file is written in UTF-8
        plain = self.report is None and not can_show_marks(sys.stdout.encoding)
        return Page(max(width, 60), color, self.verbose, self.args, plain)

    def progress(self) -> Progress:
        """Return a function that prints a step on standard error, if steps are shown."""
        shown = self.verbose or (sys.stderr.isatty() and not self.quiet)
        return _StepLines() if shown and prints() else silent

    @contextmanager
    def _live(self) -> Iterator[Progress]:
        """Yield the progress of a run, which a terminal shows in place."""
        if (
            self.quiet
            or not prints()
            or not sys.stderr.isatty()
            or os.environ.get("TERM") == "dumb"
        ):
            yield self.progress()
            return
        from modswap.cli.live import LiveProgress

        color = self.color and not os.environ.get("NO_COLOR")
        with closing(LiveProgress(_StepLines(), color=bool(color))) as live:
            yield live

    def note_lock(self, file: Path, *, write: bool, hold: bool) -> None:
        """Note the lock file, if it is written or compared with."""
        noted = UsedPath("the lock file", file, own_texts.LOCK)
        self.reads += [noted] if hold else []
        self.writes += [noted] if write else []

    def judge(self) -> None:
        """Refuse to write to a path that is read, twice to one, or over a foreign text.

        It is called before any work is done, and again before a text is written.

        Raises:
            ReportError: If the report or another text would be written there.
        """
        written: list[UsedPath] = []
        for one in (*self.writes, *self._own_writes()):
            if one.name != OUT:  # the job refuses that, and the report says so
                _refuse(one, (*self.reads, *written, *imported_as(one.file)))
            written.append(one)

    def _own_writes(self) -> Iterator[UsedPath]:
        if self.report is not None:
            yield UsedPath(REPORT, self.report, own_texts.REPORT)
        if self.summary is not None:
            yield UsedPath(f"the summary ({SUMMARY})", self.summary, own_texts.SUMMARY)

    @property
    def summary(self) -> Path | None:
        """Return the file of a GitHub job to which the report adds a summary, or None."""
        named = os.environ.get(SUMMARY)
        return Path(named) if named and self.format == "github" and prints() else None

    @contextmanager
    def guarded(self) -> Iterator[Progress]:
        """Send the prints of a model's own code to standard error; yield `progress`.

        A `ReportError` says that the report's folder does not exist, or that the report would
        overwrite what the run reads or writes, before any work is done.
        """
        if self.report is not None:
            require_folder(self.report)
        self.judge()
        with ExitStack() as stack:
            other = sys.stderr if prints() else stack.enter_context(_nowhere())
            stack.enter_context(redirect_stdout(other))
            yield stack.enter_context(self._live())

    def announce(self, error: ModswapError) -> None:
        """Print an error early, on standard error, which GitHub reads for annotations too."""
        if self.format != "github":
            self.complain(error)
            self.announced += error.all

    def _addition(self, error: ModswapError) -> str | None:
        """Return the fix, less that of an announcement; None for an error not announced."""
        for early in self.announced:
            if (early.where, early.what) == (error.where, error.what):
                return error.fix.removeprefix(early.fix).lstrip("; ")
        return None

    def complain(self, error: ModswapError) -> None:
        """Print an error, and the errors that came with it, on standard error."""
        if not may_complain():
            return
        red = sys.stderr.isatty() and self.color and not os.environ.get("NO_COLOR")
        label = "\x1b[1;31merror\x1b[0m" if red else "error"
        for one in self._gathered(error.all):
            addition = self._addition(one)
            if addition is not None:
                addition = self.worded(one.with_fix(addition)).fix
                sys.stderr.write(without_commands(f"  fix: {tame(addition)}\n" if addition else ""))
                continue
            said = self.worded(one)
            text = tame(said.with_fix("").line())
            fix = f"\n  fix: {tame(said.fix)}" if said.fix else ""
            sys.stderr.write(without_commands(f"{label}: {text}{fix}\n"))
            if isinstance(one, BugError):
                sys.stderr.write(without_commands(tame_lines(one.traceback)))
        self.suggest([error])

    def _gathered(self, errors: Sequence[ModswapError]) -> Sequence[ModswapError]:
        """Return errors, those that differ in their places alone as one."""
        if len(errors) == 1 or self.announced:
            return errors
        from modswap.report.folded_names import pattern_of
        from modswap.report.summary.findings import places

        groups: dict[tuple[str, ...], list[ModswapError]] = {}
        for one in errors:
            line = one.where if ":" in one.where else ""  # of a recipe
            trace = getattr(one, "traceback", "")
            key = (one.check, pattern_of(one.what), one.fix, line, trace)
            groups.setdefault(key, []).append(one)
        return [
            group[0].at(places([one.where for one in group])) if len(group) > 1 else group[0]
            for group in groups.values()
        ]

    def worded(self, error: ModswapError) -> ModswapError:
        """Return an error that names options where options made the rule."""
        return spelled(error) if self.by_options else error

    def suggest(self, errors: Iterable[ModswapError]) -> None:
        """Print the command again with the options that errors propose, if they do, on one line."""
        line = command_again(self.args, (one for error in errors for one in error.all))
        if line:
            sys.stderr.write(f"  {line}\n")

    def emit(self, text: str) -> None:
        """Write a report to its file, or to standard output, or raise a `ReportError`."""
        if not prints():
            return
        if self.report is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        self.judge()  # links may be others than at the beginning
        put_text(self.report, text)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


class ReportError(CheckpointError):
    """A text file cannot be written."""


def require_folder(file: Path) -> None:
    """Raise a `ReportError` if a text file has no folder to be written to."""
    if not file.absolute().parent.is_dir():
        what = f"it cannot be written: {os.strerror(errno.ENOENT)}"
        raise ReportError(what, str(file), "make its folder first")


def put_text(file: Path, text: str, *, force: bool = True) -> None:
    """Write a text file as a whole, or raise a `ReportError` if that fails."""
    from modswap.io.raw.texts import write_text

    require_folder(file)
    try:
        write_text(file, text, force=force)
    except CheckpointError as error:
        raise ReportError(error.what, error.where, error.fix) from error


def _refuse(written: UsedPath, used: Iterable[UsedPath]) -> None:
    from modswap.io.formats.target import refuse_foreign
    from modswap.io.raw.places import refuse_overlap

    try:
        refuse_overlap(written, used)
        refuse_foreign(written)
    except CheckpointError as error:
        raise ReportError(error.what, error.where, error.fix) from error


def can_show_marks(encoding: str | None) -> bool:
    """Return whether an encoding has the arrows and marks of reports."""
    from modswap.report.page import MARKS

    try:
        MARKS.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def note(text: str) -> None:
    """Print a line on standard error."""
    sys.stderr.write(without_commands(f"{tame(text)}\n"))


@dataclass(slots=True)
class _StepLines:
    """Steps on standard error, a line for each; of those that pass, one in a while."""

    passed: float = -inf  # when the last one was printed

    def __call__(self, text: str) -> None:
        if isinstance(text, Passing):
            now = time.monotonic()
            if now - self.passed < PASSING_SECONDS:
                return
            self.passed = now
        note(f"… {text}")

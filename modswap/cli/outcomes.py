"""Printing outcomes, and ending with their exit code."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modswap.cli.session import Session
from modswap.core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modswap.core.kept.outcome import Outcome

SUMMARY = "GITHUB_STEP_SUMMARY"


def finish(session: Session, outcomes: "Sequence[Outcome]") -> None:
    """Print every outcome and end with the worst exit code.

    Refusals count more than unreadable files, those more than wrong calls, those more than a swap
    that does not hold: the first thing to be mended decides.

    Raises:
        typer.Exit: With the exit code, if it is not 0.
    """
    publish(session, outcomes)
    if says_errors(session):
        for one in outcomes:
            if one.error is not None:
                session.complain(one.error)
    worst = max(one.exit_code for one in outcomes)
    if worst:
        raise typer.Exit(worst)


def publish(session: Session, outcomes: "Sequence[Outcome]") -> None:
    """Print the report on outcomes, and add the summary of a GitHub job where there is one.

    Raises:
        CheckpointError: If a file cannot be written.
    """
    from modswap.report import REPORTS

    table = session.format == "table"
    shown = [one for one in outcomes if not (table and session.quiet and one.ok)]
    text = REPORTS[session.format](shown, session.page()) if shown else ""
    if len(outcomes) > 1 and table and not session.quiet:
        good = sum(one.ok for one in outcomes)
        text += f"\n{good} of {len(outcomes)} recipes hold\n"
    if text:
        session.emit(text)
    summary = os.environ.get(SUMMARY)
    if session.format == "github" and summary:
        _summarise(Path(summary), outcomes)


def says_errors(session: Session) -> bool:
    """Return whether errors are said on standard error as well.

    A table on the screen says them itself. So do GitHub's annotations, where standard error is
    read for commands just as standard output is.
    """
    return session.report is not None or session.format not in {"table", "github"}


def _summarise(file: Path, outcomes: "Sequence[Outcome]") -> None:
    from modswap.report.github import github_summary

    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(f"{github_summary(outcomes)}\n")  # a blank line ends the last table
    except OSError as error:
        reason = error.strerror or str(error)
        what = f"the summary cannot be written: {reason}"
        raise CheckpointError(what, str(file), f"unset {SUMMARY}") from error

"""Print outcomes, and end with their exit code."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modswap.cli.session import SUMMARY, Session
from modswap.core.errors import BugError, CheckpointError

STOPPED = 130  # after Ctrl-C

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modswap.core.kept.outcome import Outcome


def finish(session: Session, outcomes: "Sequence[Outcome]") -> None:
    """Print every outcome and end with the worst exit code.

    A bug counts more than a refusal, a refusal more than an unreadable file, that more than a wrong
    call, that more than a swap that does not hold.

    Raises:
        typer.Exit: With the exit code, if it is not 0.
    """
    publish(session, outcomes)
    for one in outcomes:
        if one.error is not None and (prints_errors(session) or isinstance(one.error, BugError)):
            session.complain(one.error)
    if not prints_errors(session) and session.format != "github":
        session.suggest(one.error for one in outcomes if one.error is not None)
    worst = max(one.exit_code for one in outcomes)
    broken_off = any(one.healing is not None and one.healing.interrupted for one in outcomes)
    if worst or broken_off:
        raise typer.Exit(worst or STOPPED)


def publish(session: Session, outcomes: "Sequence[Outcome]") -> None:
    """Print the report on outcomes, and add the summary of a GitHub job where there is one.

    A `CheckpointError` names a file that cannot be written.
    """
    from modswap.report import REPORTS

    outcomes = [
        one if one.error is None else replace(one, error=session.worded(one.error))
        for one in outcomes
    ]
    if session.format != "table":
        session.emit(REPORTS[session.format](outcomes, session.page()))
    else:
        session.emit(_tables(session, outcomes))
    if session.summary is not None:
        session.judge()
        _append_summary(session.summary, outcomes)


def _tables(session: Session, outcomes: "Sequence[Outcome]") -> str:
    from modswap.report import REPORTS

    shown = [one for one in outcomes if not (session.quiet and one.ok)]
    text = REPORTS["table"](shown, session.page()) if shown else ""
    if len(outcomes) > 1 and not session.quiet:
        holding = sum(one.ok for one in outcomes)
        text += f"\n{holding} of {len(outcomes)} recipes hold\n"
    return text


def prints_errors(session: Session) -> bool:
    """Return whether errors are printed on standard error as well.

    A table on the screen holds them. So do GitHub's annotations, and GitHub reads standard error
    for annotations as it reads standard output.
    """
    return session.report is not None or session.format not in {"table", "github"}


def _append_summary(file: Path, outcomes: "Sequence[Outcome]") -> None:
    from modswap.io.raw.texts import append_text
    from modswap.report.github import github_summary

    try:
        append_text(file, f"{github_summary(outcomes)}\n")  # a blank line ends the last table
    except CheckpointError as error:
        what = f"the summary cannot be written: {error.what.removeprefix('it cannot be written: ')}"
        raise CheckpointError(what, str(file), f"{error.fix}, or unset {SUMMARY}") from error

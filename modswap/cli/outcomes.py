"""Printing outcomes, and ending with their exit code."""

from typing import TYPE_CHECKING

import typer

from modswap.cli.session import Session, complain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modswap.core.outcome import Outcome


def finish(session: Session, outcomes: "Sequence[Outcome]") -> None:
    """Print every outcome and end with the worst exit code.

    Refusals count more than unreadable files, those more than wrong calls, those more than a swap
    that does not hold: the first thing to be mended decides.

    Raises:
        typer.Exit: With the exit code, if it is not 0.
    """
    from modswap.report import REPORTS

    shown = [
        one for one in outcomes if not one.ok or not session.quiet or session.format != "table"
    ]
    texts = [REPORTS[session.format](one, session.page()) for one in shown]
    if session.format == "json" and len(outcomes) > 1:
        inner = ",\n".join(text.rstrip("\n") for text in texts)
        texts = [f"[\n{inner}\n]\n"]
    if texts:
        session.emit("\n".join(texts))
    if session.format != "table" or session.report is not None:
        for one in outcomes:
            if one.error is not None:
                complain(one.error)
    if len(outcomes) > 1 and session.format == "table" and not session.quiet:
        good = sum(one.ok for one in outcomes)
        session.emit(f"\n{good} of {len(outcomes)} recipes hold\n")
    worst = max(one.exit_code for one in outcomes)
    if worst:
        raise typer.Exit(worst)

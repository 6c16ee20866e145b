"""`modswap diff`: what changed between two checkpoints."""

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from modswap.cli import options
from modswap.core.asked.used_paths import INPUT, UsedPath
from modswap.core.errors import UsageError
from modswap.core.kept.difference import Part
from modswap.core.words.nearest import did_you_mean

A = Annotated[Path, typer.Argument(metavar="A", help="A checkpoint.", show_default=False)]
B = Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)]


def diff(
    context: typer.Context,
    a: A,
    b: B,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="PART",
            help="structure (names, classes, shapes, dtypes; no values are read) or values.",
            show_default=False,
        ),
    ] = None,
    form: options.FormatOrPage = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Show what changed between two checkpoints of any formats; 0 equal, 1 different."""
    session = options.begin(
        context, a, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    session.reads.append(UsedPath(INPUT, b))
    options.check_format(session, form, ("table", "json", "html"))
    parts = [part for part in get_args(Part) if part != "all"]
    if only is not None and only not in parts:
        fix = did_you_mean(only, parts) or f"use one of {', '.join(parts)}"
        raise UsageError(f"no part {only!r}", "--only", fix)

    from modswap.ops.compare.files import diff_files
    from modswap.report.difference.data import diff_json
    from modswap.report.difference.html import diff_html
    from modswap.report.difference.table import diff_table

    with session.guarded() as progress:
        found = diff_files(a, b, cast("Part", only or "all"), progress)
    if session.format == "json":
        session.emit(diff_json(found))
    elif session.format == "html":
        session.emit(diff_html(found, session.page()))
    elif not (quiet and found.equal):
        session.emit(diff_table(found, session.page()))
    if found.exit_code:
        raise typer.Exit(found.exit_code)

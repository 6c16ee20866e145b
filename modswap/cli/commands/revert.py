"""`modswap revert`: the structure before a swap, where its tensors are still in the file."""

from typing import Annotated

import typer

from modswap.cli import options
from modswap.cli.outcomes import finish


def revert(
    context: typer.Context,
    file: options.File,
    output: options.Output = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Leave modules whose old ones are gone as they are."),
    ] = False,
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    no_checksum: options.NoChecksum = False,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    form: options.ReportFormat = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:  # fmt: skip
    """Take modules that were put in beside others out again."""
    from modswap.report import REPORTS

    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, [], model, output)
    options.check_format(session, form, REPORTS)
    options.refuse_idle(output, dry_run=dry_run)
    policy = options.policy_of(allow, alias, trust=trust, checksum=not no_checksum)
    renames = options.renames_of(rename, strip_prefix)
    subject = options.subject(file, policy, model, None, renames)
    options.look_at_paths(session, force=force, writes=not dry_run)

    from modswap.core.asked.job import Rework
    from modswap.ops.jobs.revert import revert_file

    out = None if dry_run else output
    with session.guarded() as progress:
        outcome = revert_file(Rework(subject, out, force, partial), progress)
    finish(session, [outcome])

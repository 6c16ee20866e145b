"""`modswap finalize`: gates end, and modules that faded in take the place of the old ones."""

from typing import Annotated

import typer

from modswap.cli import options
from modswap.cli.outcomes import finish
from modswap.core.errors import UsageError


def finalize(
    context: typer.Context,
    file: options.File,
    output: options.Output = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="1", help="Take gates that are not 1 as 1.", show_default=False
        ),
    ] = None,
    fold: Annotated[
        bool,
        typer.Option(
            "--fold",
            help="Fold batch norms and summed branches of new modules into their layers, for "
            "evaluation.",
        ),
    ] = False,
    inputs: options.Input = None,
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
    """End gates: fold them in, and drop the old modules that new ones have faded in for."""
    from modswap.report import REPORTS

    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, [], model, output)
    options.check_format(session, form, REPORTS)
    options.refuse_idle(output, dry_run=dry_run)
    if at not in {None, "1"}:
        raise UsageError(f"a gate can end at 1 alone, not at {at!r:.40}", "--at", "write --at 1")
    policy = options.policy_of(allow, alias, trust=trust, checksum=not no_checksum)
    renames = options.renames_of(rename, strip_prefix)
    subject = options.subject(file, policy, model, inputs, renames)
    options.look_at_paths(session, force=force, writes=not dry_run)

    from modswap.core.asked.job import Rework
    from modswap.ops.jobs.finalize.job import finalize_file

    out = None if dry_run else output
    with session.guarded() as progress:
        outcome = finalize_file(Rework(subject, out, force, at_one=at == "1", fold=fold), progress)
    finish(session, [outcome])

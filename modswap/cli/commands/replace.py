"""`modswap replace`: plan, swap, verify, write, report."""

from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import options
from modswap.cli.outcomes import finish
from modswap.core.errors import UsageError


def replace(
    context: typer.Context,
    file: options.File,
    config: Annotated[
        str,
        typer.Option(
            "-c", "--config", metavar="RECIPE", help="The recipe; - reads standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", help="The file to write; its ending picks the format.",
            show_default=False,
        ),
    ] = None,
    inputs: options.Input = None,
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    no_checksum: options.NoChecksum = False,
    digest: options.Digest = None,
    no_forward: Annotated[
        bool,
        typer.Option(
            "--no-forward",
            help="Build and run no module of the file: its classes need not be importable. "
            "The fit of the new modules is then not verified.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do all but the writing.")] = False,
    force: options.Force = False,
    thorough: options.Thorough = False,
    max_memory: options.MaxMemory = None,
    form: options.ReportFormat = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:  # fmt: skip
    """Swap modules in a checkpoint by a recipe."""
    from modswap.report import REPORTS

    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    session.recipe = config
    options.note_paths(session, [config], model, output, digest)
    options.check_format(session, form, REPORTS)
    if output is None and not dry_run:
        fix = "add `-o OUT`, or --dry-run to write nothing"
        raise UsageError("there is no file to write", "-o", fix)
    policy = options.policy_of(allow, alias, trust=trust, checksum=not no_checksum)
    subject = options.subject(file, policy, model, inputs, options.renames_of(rename, strip_prefix))
    most = options.memory_of(max_memory)

    from modswap.core.asked.job import Job
    from modswap.core.asked.used_paths import recipe_files
    from modswap.io.raw.held import holding
    from modswap.ops.jobs.verify import require_digest
    from modswap.ops.recipes import read_recipe

    out = None if dry_run else output
    job = Job(subject, read_recipe(config), out, force, thorough=thorough, max_memory=most)
    session.reads += recipe_files(job.recipe)
    if no_forward:
        from modswap.ops.jobs.replace_as_data import replace_unbuilt as run
    else:
        from modswap.ops.jobs.replace import replace_file as run
    with session.guarded() as progress, holding(file):
        if digest is not None:
            require_digest(file, digest, progress)
        outcome = run(job, progress)
    finish(session, [outcome])

"""`modswap verify`: compare a checkpoint with its checksums."""

import typer

from modswap.cli import options


def verify(
    context: typer.Context,
    file: options.File,
    digest: options.Digest = None,
    form: options.Format = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Compare a file with the checksums in it, or with a SHA-256."""
    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, digest=digest)
    options.check_format(session, form, ("table", "json"))

    from modswap.ops.jobs.verify import verify_file
    from modswap.report.verify import verify_json, verify_table

    with session.guarded() as progress:
        found = verify_file(file, digest, progress)
    if session.format == "json":
        session.emit(verify_json(found))
    elif not (quiet and found.ok):
        session.emit(verify_table(found, session.page()))
    if found.error is not None:
        session.complain(found.error)
    if found.exit_code:
        raise typer.Exit(found.exit_code)

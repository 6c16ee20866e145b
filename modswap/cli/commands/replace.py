"""`modswap replace`: plan, swap, verify, write, report."""

from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import one_rule, options
from modswap.cli.outcomes import finish
from modswap.core.errors import UsageError


def replace(
    context: typer.Context,
    file: options.File,
    config: options.Config = None,
    match: one_rule.Match = None,
    after: one_rule.After = None,
    before: one_rule.Before = None,
    around: one_rule.Around = None,
    with_: one_rule.With = None,
    settings: one_rule.Settings = None,
    exclude: one_rule.Exclude = None,
    classes: one_rule.Classes = None,
    expect: one_rule.Expect = None,
    adapt: one_rule.Adapt = False,
    share: one_rule.Share = False,
    start: one_rule.Start = None,
    save_recipe: one_rule.SaveRecipe = None,
    output: options.Output = None,
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
    dry_run: options.DryRun = False,
    force: options.Force = False,
    thorough: options.Thorough = False,
    fast: options.Fast = False,
    max_memory: options.MaxMemory = None,
    form: options.ReportFormat = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:  # fmt: skip
    """Swap modules in a checkpoint by a recipe, or by one rule."""
    from modswap.report import REPORTS

    # by `chosen`
    del (match, after, before, around, with_, settings, exclude, classes, expect,
         adapt, share, start, save_recipe)  # fmt: skip

    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    chosen = one_rule.chosen(context, session)
    session.recipe = chosen.name
    options.note_paths(session, [config], model, output, digest)
    options.check_format(session, form, REPORTS)
    _refuse_idle(chosen, output, dry_run=dry_run)
    options.refuse_both(fast=fast, thorough=thorough)
    policy = options.policy_of(allow, alias, trust=trust, checksum=not no_checksum)
    subject = options.subject(file, policy, model, inputs, options.renames_of(rename, strip_prefix))
    most = options.memory_of(max_memory)

    from modswap.core.asked.job import Job
    from modswap.core.asked.used_paths import recipe_files
    from modswap.io.raw.held import holding
    from modswap.ops.jobs.verify import require_digest

    out = None if dry_run else output
    job = Job(subject, chosen.recipe(), out, force, thorough=thorough, fast=fast, max_memory=most)
    session.reads += recipe_files(job.recipe)
    if no_forward:
        from modswap.ops.jobs.replace_as_data import replace_unbuilt as run
    else:
        from modswap.ops.jobs.replace import replace_file as run
    with session.guarded() as progress, holding(file):
        if digest is not None:
            require_digest(file, digest, progress)
        outcome = run(job, progress)
    chosen.save(session, [outcome])
    finish(session, [outcome])


def _refuse_idle(chosen: one_rule.Chosen, output: Path | None, *, dry_run: bool) -> None:
    """Refuse a call without a recipe, or without a file to write."""
    if chosen.config is None and chosen.rule is None:
        fix = "add `-c RECIPE`, or one rule: --match PATTERN --with MODULE"
        raise UsageError("there is no recipe", "-c", fix)
    options.refuse_idle(output, dry_run=dry_run)

"""`modswap replace`: plan, swap, verify, write, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modswap.cli import healing, one_rule, options
from modswap.cli.outcomes import finish
from modswap.cli.session import Session
from modswap.cli.supervisor import importing
from modswap.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modswap.core.asked.job import Job
    from modswap.core.kept.outcome import Outcome
    from modswap.core.progress import Progress


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
    heal: Annotated[
        str,
        typer.Option(
            "--heal",
            metavar="D",
            help="Bring the new modules back to what the old ones computed, on these inputs: "
            "a folder of pictures or whatever else `modswap heal --data` takes; none draws them.",
            show_default=False,
        ),
    ] = "",
    steps: healing.Steps = None,
    size: healing.Size = None,
    mean: healing.Mean = None,
    std: healing.Std = None,
    bypass: healing.Bypass = False,
    dry_run: options.DryRun = False,
    force: options.Force = False,
    thorough: options.Thorough = False,
    fast: options.Fast = False,
    max_memory: options.MaxMemory = None,
    image: options.Image = None,
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
    _refuse_both(heal, no_forward=no_forward, fast=fast, thorough=thorough)
    said = {"steps": steps, "size": size, "mean": mean, "std": std, "bypass": bypass}
    request = healing.request_of_swap(heal, said)
    policy = options.policy_of(allow, alias, trust=trust, checksum=not no_checksum)
    subject = options.subject(file, policy, model, inputs, options.renames_of(rename, strip_prefix))
    most = options.memory_of(max_memory)

    from modswap.core.asked.job import Job

    job = Job(
        subject,
        chosen.recipe(),
        None if dry_run else output,
        force,
        thorough=thorough,
        fast=fast,
        max_memory=most,
        heal=heal,
        healing=request,
        view=options.wants_view(session),
        image=options.note_image(session, image),
    )
    outcome = _run(session, job, digest, no_forward=no_forward)
    chosen.save(session, [outcome])
    finish(session, [outcome])


def _run(session: Session, job: "Job", digest: str | None, *, no_forward: bool) -> "Outcome":
    """Do the job, once the file is known to be that of the digest, if one is given."""
    from modswap.core.asked.used_paths import healing_files, recipe_files
    from modswap.io.raw.held import holding
    from modswap.ops.jobs.verify import require_digest

    session.reads += (*recipe_files(job.recipe), *healing_files(job.heal))
    options.look_at_paths(session, force=job.force, writes=job.out is not None)
    with session.guarded() as progress, holding(job.subject.file):
        if digest is not None:
            require_digest(job.subject.file, digest, progress)
        with importing():
            work = _job_of(no_forward=no_forward)
        return work(job, progress)


def _refuse_idle(chosen: one_rule.Chosen, output: Path | None, *, dry_run: bool) -> None:
    """Refuse a call without a recipe, or without a file to write."""
    if chosen.config is None and chosen.rule is None:
        fix = "add `-c RECIPE`, or one rule: --match PATTERN --with MODULE"
        raise UsageError("there is no recipe", "-c", fix)
    options.refuse_idle(output, dry_run=dry_run)


def _refuse_both(heal: str, *, no_forward: bool, fast: bool, thorough: bool) -> None:
    """Refuse options that exclude each other."""
    options.refuse_both(fast=fast, thorough=thorough)
    if heal and no_forward:
        what = "--heal and --no-forward exclude each other: what is healed has to run"
        raise UsageError(what, "--heal", "leave one out")


def _job_of(*, no_forward: bool) -> "Callable[[Job, Progress], Outcome]":
    """Return the function that does the job."""
    if no_forward:
        from modswap.ops.jobs.replace_as_data import replace_unbuilt

        return replace_unbuilt
    from modswap.ops.jobs.replace import replace_file

    return replace_file

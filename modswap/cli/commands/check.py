"""`modswap check`: the dry run for CI; it reads no weights."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modswap.cli import locking, one_rule, options
from modswap.cli.outcomes import finish
from modswap.cli.session import Session, note
from modswap.cli.supervisor import importing
from modswap.core.asked.used_paths import paths_read
from modswap.core.errors import UsageError
from modswap.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modswap.core.kept.outcome import Outcome
    from modswap.ops.jobs.check import Request

RECIPES = (".yaml", ".yml")


def check(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE | RECIPE.yaml…",
            help="The checkpoint; or recipes that name their own.",
            show_default=False,
        ),
    ],
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
    inputs: options.Input = None,
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    thorough: options.Thorough = False,
    fast: options.Fast = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", "--jobs", metavar="N", min=1, help="The most recipes to check at once.",
            show_default=False,
        ),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Edit a recipe that fails, where a small edit makes it hold."
        ),
    ] = False,
    lock: locking.Lock = False,
    locked: locking.Locked = False,
    lock_file: locking.LockFile = None,
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="NAME", show_default=False,
            help="Read the weights and run there: cpu, cuda, cuda:1, mps; meta: shapes alone.",
        ),
    ] = "",
    max_memory: options.MaxMemory = None,
    strict: options.Strict = False,
    form: options.ReportFormat = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:  # fmt: skip
    """Check a swap; read no weights, write nothing."""
    from modswap.report import REPORTS

    # by `chosen`
    del (match, after, before, around, with_, settings, exclude, classes, expect,
         adapt, share, start, save_recipe)  # fmt: skip
    session = options.begin(
        context, files[0], report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, [config, *map(str, files[1:])], model)
    options.check_model(model)
    session.note_lock(lock_file or locking.LOCK, write=lock, hold=locked)
    options.check_format(session, form, REPORTS)
    chosen = one_rule.chosen(context, session, len(files))
    chosen.refuse_without_file(fix=fix, lock=lock, locked=locked)
    pairs = _pairs(files, config if chosen.rule is None else chosen.name)
    options.refuse_both(fast=fast, thorough=thorough)
    _refuse_fix(config, fix=fix, locked=locked)
    policy = options.policy_of(allow, alias, trust=trust)
    keeping = locking.locking_of(lock_file, write=lock, hold=locked)
    renames = options.renames_of(rename, strip_prefix)
    shapes, find = options.inputs_of(inputs)

    from modswap.ops.jobs.check import Request, paths_of

    first = Request(
        "", None, policy, model, shapes, renames, thorough, fix, options.memory_of(max_memory),
        strict, find_input=find, fast=fast, view=options.wants_view(session), device=device,
    )  # fmt: skip
    requests = [replace(first, recipe=name, file=file, rule=chosen.rule) for file, name in pairs]
    if any((report, lock, fix, session.summary)):
        session.reads += paths_of(requests)
    session.judge()
    entries = keeping.entries([request.recipe for request in requests])
    with session.guarded() as progress:
        outcomes = _outcomes(session, requests, jobs, progress, alone=not entries)
    chosen.save(session, outcomes)
    for outcome in outcomes:
        if outcome.fixed:
            note(f"fixed: {outcome.fixed}")
    finish(session, keeping.settle(outcomes, entries, quiet=quiet))


def _refuse_fix(config: str | None, *, fix: bool, locked: bool) -> None:
    """Refuse to edit a recipe that is in no file, or that a lock holds."""
    if fix and config == "-":
        raise UsageError("standard input cannot be fixed", "--fix", "put the recipe into a file")
    if fix and locked:
        what = "--fix and --locked exclude each other: a fixed recipe is not the locked one"
        raise UsageError(what, "check", "fix first, then write the lock anew with --lock")


def _outcomes(
    session: Session,
    requests: "Sequence[Request]",
    jobs: int | None,
    progress: Progress,
    *,
    alone: bool,
) -> list["Outcome"]:
    """Return the outcome of each request; an error that stops the only check is raised."""
    from modswap.ops.jobs.check import check_many, check_one, job_of
    from modswap.ops.jobs.workers import cores

    if len(requests) > 1:
        return list(check_many(requests, jobs or cores(), progress))
    (request,) = requests
    if not alone:
        return [check_one(request, progress)]
    session.recipe = request.recipe
    session.checkpoint = str(request.file or "")
    job = job_of(request)
    session.checkpoint = str(job.subject.file)
    session.reads += paths_read(job.subject, job.recipe)
    session.judge()
    options.look_at_paths(session)

    with importing():
        from modswap.ops.jobs.repair import check_and_repair

    return [check_and_repair(job, progress, fix=request.fix, say=session.announce)]


def _pairs(files: list[Path], config: str | None) -> list[tuple[Path | None, str]]:
    """Return pairs of a checkpoint and a recipe; None for the checkpoint that the recipe names."""
    if config is not None:
        if len(files) > 1:
            what = f"{len(files)} files and one recipe"
            fix = "check one file with -c, or name recipes that name their own checkpoint"
            raise UsageError(what, "check", fix)
        return [(files[0], config)]
    others = [file for file in files if file.suffix.lower() not in RECIPES]
    if others:
        fix = f"add the recipe: modswap check {others[0]} -c RECIPE"
        raise UsageError(f"{str(others[0])!r} is not a recipe, and -c is missing", "check", fix)
    return [(None, str(file)) for file in files]

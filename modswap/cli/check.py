"""`modswap check`: the dry run for CI, without reading weights."""

from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import options
from modswap.cli.outcomes import finish
from modswap.core.errors import UsageError

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
    config: Annotated[
        str | None,
        typer.Option(
            "-c", "--config", metavar="RECIPE", help="The recipe; - reads standard input.",
            show_default=False,
        ),
    ] = None,
    inputs: options.Input = None,
    model: options.Model = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    thorough: options.Thorough = False,
    max_memory: options.MaxMemory = None,
    form: options.ReportFormat = "table",
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:  # fmt: skip
    """Check a swap; no weights read, nothing written."""
    session = options.session_of(context)
    session.command, session.checkpoint = "check", str(files[0])
    session.report, session.quiet, session.verbose = report, quiet, verbose
    session.color = not no_color
    options.check_report(session, form)
    pairs = _pairs(files, config)
    policy = options.policy_of(allow, alias, trust=trust)
    most = options.memory_of(max_memory)

    from modswap.core.errors import ModswapError
    from modswap.core.job import Job
    from modswap.core.outcome import Outcome
    from modswap.io.recipe import read_recipe
    from modswap.ops.replace import check_file

    outcomes = []
    for file, name in pairs:
        session.recipe = name
        session.checkpoint = str(file or "")
        try:
            recipe = read_recipe(name)
            checkpoint = file or own_checkpoint(recipe.checkpoint, name, recipe.source.folder)
            session.checkpoint = str(checkpoint)
            subject = options.subject(checkpoint, inputs=inputs, model=model, policy=policy)
            job = Job(subject, recipe, thorough=thorough, max_memory=most)
            outcomes.append(check_file(job, session.progress()))
        except ModswapError as error:
            if len(pairs) == 1:
                raise
            # one recipe of several: the others are checked all the same
            failed = Outcome("check", session.checkpoint, name, error=error)
            outcomes.append(failed)
    finish(session, outcomes)


def _pairs(files: list[Path], config: str | None) -> list[tuple[Path | None, str]]:
    """Return what is checked with what; None stands for the recipe's own checkpoint."""
    if config is not None:
        if len(files) > 1:
            what = f"{len(files)} files and one recipe"
            fix = "check one file with -c, or name recipes that name their own checkpoint"
            raise UsageError(what, "check", fix)
        return [(files[0], config)]
    others = [file for file in files if file.suffix.lower() not in RECIPES]
    if others:
        fix = f"add the recipe: modswap check {others[0]} -c RECIPE"
        raise UsageError(f"{str(others[0])!r} is no recipe, and -c is missing", "check", fix)
    return [(None, str(file)) for file in files]


def own_checkpoint(checkpoint: str | None, name: str, folder: str) -> Path:
    """Return the file that a recipe names.

    Args:
        checkpoint: What the recipe says, if it says it.
        name: The recipe.
        folder: Where the recipe lies.

    Raises:
        UsageError: If it names none.
    """
    if checkpoint is None:
        fix = f"add `checkpoint: …` to it, or call `modswap check FILE -c {name}`"
        raise UsageError("the recipe names no checkpoint", name, fix)
    return Path(folder, checkpoint)

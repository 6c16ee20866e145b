"""`modswap init`: a first recipe for a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import options
from modswap.cli.session import put_text
from modswap.core.asked.own_texts import RECIPE_TEXT
from modswap.core.asked.used_paths import UsedPath
from modswap.core.words.printable import tame
from modswap.io.raw.atomic import exists


def init(
    context: typer.Context,
    file: options.File,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="RECIPE", help="Write it there.", show_default=False
        ),
    ] = None,
    inputs: options.Input = None,
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite RECIPE.")] = False,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Write a starter recipe; its rule was tried."""
    session = options.begin(context, file, quiet=quiet, verbose=verbose, no_color=no_color)
    options.note_paths(session, model=model)
    if output is not None:
        session.writes.append(UsedPath("the new recipe", output, RECIPE_TEXT))
        if output.exists() and not force:
            raise exists(output)
    policy = options.policy_of(allow, alias, trust=trust)
    renames = options.renames_of(rename, strip_prefix)
    subject = options.subject(file, policy, model, inputs, renames)

    from modswap.ops.jobs.starter.starter_recipe import starter_recipe

    with session.guarded() as progress:
        text = starter_recipe(subject, progress)
    if output is None:
        session.emit(text)
        return
    session.judge()
    put_text(output, text, force=force)
    if not quiet:
        session.emit(f"wrote {tame(str(output))}\n")

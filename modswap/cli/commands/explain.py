"""`modswap explain`: a module's forward, line by line."""

from pathlib import Path
from typing import Annotated

import typer

from modswap.cli import one_rule, options
from modswap.core.errors import UsageError
from modswap.core.explained.target import CLASS, FILE, parse_target
from modswap.core.explained.words import LANGUAGES

_NO_FILE = Path()


def explain(
    context: typer.Context,
    module: Annotated[
        str,
        typer.Argument(
            metavar="MODULE",
            help="A name of `modswap catalogue`, FILE:PATH, or package.module:Class(…).",
            show_default=False,
        ),
    ],
    inputs: options.Input = None,
    settings: one_rule.Settings = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            min=0,
            help="How many functions and modules below the forward to follow.",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[
        bool | None,
        typer.Option(
            "--plain/--fast",
            help="The form of the paper, as where there is one, or the form that runs.",
            show_default=False,
        ),
    ] = None,
    times: Annotated[
        bool, typer.Option("--time/--no-time", help="Time the lines, or not.", show_default=False)
    ] = True,
    lang: Annotated[str, typer.Option("--lang", metavar="LANG", help="en or zh.")] = "en",
    model: options.Model = None,
    rename: options.Renames = None,
    strip_prefix: options.StripPrefix = None,
    allow: options.Allow = None,
    alias: options.Alias = None,
    trust: options.Trust = False,
    form: Annotated[
        str, typer.Option("--format", metavar="FORM", help="text, markdown, html or json.")
    ] = "text",
    report: options.Report = None,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Show what each line of a module's forward computes: shapes, FLOPs, bytes, time."""
    target = parse_target(module)
    file = Path(target.text) if target.kind == FILE else ""
    session = options.begin(
        context, file, report=report, quiet=quiet, verbose=verbose, no_color=no_color
    )
    options.note_paths(session, model=target.text if target.kind == CLASS else model)
    options.check_format(session, form, ("text", "markdown", "html", "json"))
    if lang not in LANGUAGES:
        raise UsageError(f"no language {lang!r:.40}", "--lang", f"use {' or '.join(LANGUAGES)}")
    policy = options.policy_of(allow, alias, trust=trust)
    renames = options.renames_of(rename, strip_prefix)
    subject = options.subject(Path(file or _NO_FILE), policy, model, inputs, renames)
    given = one_rule.settings_of(settings or ())

    from modswap.ops.explain.job import ExplainOptions, explain_asked
    from modswap.ops.explain.subject import Asked
    from modswap.report.explained import FORMS

    with session.guarded() as progress:
        asked = Asked(target, subject, given)
        found = explain_asked(asked, ExplainOptions(depth, plain, times), progress)
    session.emit(FORMS[session.format](found, lang, session.page()))

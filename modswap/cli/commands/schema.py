"""`modswap schema`: the recipe's JSON Schema."""

import typer

from modswap.cli import options


def schema(
    context: typer.Context,
    report: options.Report = None,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Print the recipe's JSON Schema, for editors."""
    from modswap.core.asked.schema import recipe_schema
    from modswap.ops.examine.table import examination_names
    from modswap.report.page import as_json

    session = options.begin(context, report=report, quiet=quiet, verbose=verbose, no_color=no_color)
    session.emit(as_json(recipe_schema(examination_names())))

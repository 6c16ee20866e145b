"""`modswap schema`: the JSON Schema of the recipe, or of the report."""

from typing import Annotated

import typer

from modswap.cli import completion, options
from modswap.core.errors import UsageError
from modswap.core.words.nearest import did_you_mean

RECIPE, FORMS = completion.SCHEMAS[0], completion.SCHEMAS


def schema(
    context: typer.Context,
    of: Annotated[
        str,
        typer.Argument(
            metavar="[recipe|report]",
            help="Of which of both.",
            show_default=False,
            autocompletion=completion.schemas,
        ),
    ] = RECIPE,
    report: options.Report = None,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """Print the JSON Schema of the recipe, for editors, or of the JSON report, for CI."""
    if of not in FORMS:
        fix = did_you_mean(of, FORMS) or f"write one of {', '.join(FORMS)}"
        raise UsageError(f"no schema {of!r}", "schema", fix)

    from modswap.core.asked.schema import recipe_schema
    from modswap.ops.examine.table import examination_names
    from modswap.report.json_shapes import report_schema
    from modswap.report.page import as_json

    session = options.begin(context, report=report, quiet=quiet, verbose=verbose, no_color=no_color)
    found = recipe_schema(examination_names()) if of == RECIPE else report_schema()
    session.emit(as_json(found))

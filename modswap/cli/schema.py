"""`modswap schema`: the recipe's JSON Schema."""

import json

import typer

from modswap.cli import options


def schema(context: typer.Context) -> None:
    """Print the recipe's JSON Schema, for editors."""
    from modswap.core.schema import recipe_schema

    session = options.session_of(context)
    session.command = "schema"
    session.emit(json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n")

"""`modswap catalogue`: the modules that can be swapped in."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modswap.cli import completion, options
from modswap.cli.session import Session
from modswap.core.asked.catalogue import CatalogueEntry, OptionEntry
from modswap.core.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from modswap.nn.catalogue.row import Replacement
    from modswap.nn.catalogue.table import Catalogue

_WORDS = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text"}


def catalogue(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The name of a module.",
            show_default=False,
            autocompletion=completion.modules,
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORM",
            help="table, json or markdown.",
            autocompletion=completion.forms,
        ),
    ] = "table",
    report: options.Report = None,
    quiet: options.Hush = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> None:
    """List the modules that can be swapped in; with NAME, describe one."""
    session = options.begin(context, report=report, quiet=quiet, verbose=verbose, no_color=no_color)
    options.check_format(session, form, ("table", "json", "markdown"))

    from modswap.nn import CATALOGUE
    from modswap.report import catalogue as pages

    rows = _sound_rows(CATALOGUE, session) if name is None else [_named_row(CATALOGUE, name)]
    entries = [entry_of(row) for row in rows]
    if session.format == "json":
        session.emit(pages.catalogue_json(entries))
    elif session.format == "markdown":
        session.emit(pages.catalogue_page(entries))
    elif name is None:
        session.emit(pages.catalogue_table(entries, session.page()))
    else:
        session.emit(pages.catalogue_entry(entries[0], session.page()))


def _named_row(rows: "Catalogue", name: str) -> "Replacement":
    known = rows.spelled(name)
    if known is None:
        what = f"no module {name!r:.80} in the catalogue"
        raise UsageError(what, "catalogue", rows.advice(name))
    return rows[known]


def _sound_rows(rows: "Mapping[str, Replacement]", session: Session) -> "list[Replacement]":
    """Return the rows that can be imported; print an error for each row that cannot."""
    sound = []
    for name in rows:
        try:
            sound.append(rows[name])
        except RecipeError as error:
            session.complain(error)
    return sound


def entry_of(row: "Replacement") -> CatalogueEntry:
    """Return the description of a row of the catalogue."""
    options_ = tuple(_options(row.options.model_json_schema()))
    return CatalogueEntry(
        row.name,
        row.summary,
        row.source,
        row.shapes,
        tuple(f"{name} = {term}" for name, term in row.terms.items()),
        row.flops,
        row.memory,
        options_,
        row.example,
        row.spellings,
    )


def _options(schema: dict[str, Any]) -> Iterator[OptionEntry]:
    for name, field in schema["properties"].items():
        meaning = str(field.get("description", ""))
        yield OptionEntry(name, _type(field), _default(field, meaning), meaning)


def _type(field: dict[str, Any]) -> str:
    if "expected" in field:
        words = str(field["expected"]).removesuffix(", or auto")
        return words.removeprefix("a ").removeprefix("an ")
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    return " or ".join(dict.fromkeys(_one_type(kind) for kind in kinds))


def _one_type(kind: dict[str, Any]) -> str:
    if "enum" in kind:
        return ", ".join(map(str, kind["enum"]))
    word = _WORDS.get(str(kind.get("type")), str(kind.get("type", "anything")))
    for key, text in (("minimum", "at least"), ("exclusiveMinimum", "above")):
        if key in kind:
            word += f", {text} {kind[key]}"
    return word


def _default(field: dict[str, Any], meaning: str) -> str:
    value = field.get("default")
    if value is None:
        return "null" if "null:" in meaning.lower() else "auto"
    return str(value).lower() if isinstance(value, bool) else str(value)

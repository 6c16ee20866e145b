"""Values that a shell completes: names of modules, forms of reports."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer

STARTS = ("fresh", "inherit", "preserve", "donor:")
SCHEMAS = ("recipe", "report")
_ROW = re.compile(r'^ROW = Replacement\(\s*name="(\w+)",\s*summary="([^"]*)"', re.MULTILINE)
_WORD = re.compile(r"[a-z][\w-]*")
Found = list[tuple[str, str]]  # values, each with a remark


def modules(incomplete: str) -> Found:
    """Return the names of the catalogue that begin so, in any case, with a summary of each."""
    return [one for one in _rows() if one[0].casefold().startswith(incomplete.casefold())]


def _rows() -> Iterator[tuple[str, str]]:
    """Yield name and summary of each row, from the text of its file: an import would take torch."""
    from importlib.metadata import entry_points

    for file in sorted((Path(__file__).parents[1] / "nn").glob("*.py")):
        yield from _ROW.findall(file.read_text(encoding="utf-8"))
    for entry in entry_points(group="modswap.modules"):
        yield entry.name, "of another package"


def forms(context: typer.Context, incomplete: str) -> list[str]:
    """Return the forms of the command's report, which the help of `--format` lists."""
    options = (one for one in context.command.params if one.name == "form")
    text = str(getattr(next(options, None), "help", ""))
    return [form for form in _WORD.findall(text) if form != "or" and form.startswith(incomplete)]


def starts(incomplete: str) -> list[str]:
    """Return the ways in which new weights begin."""
    return [start for start in STARTS if start.startswith(incomplete)]


def schemas(incomplete: str) -> list[str]:
    """Return the things of which there is a schema."""
    return [name for name in SCHEMAS if name.startswith(incomplete)]

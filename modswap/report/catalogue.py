"""The catalogue, for people, for programs and for the documents."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modswap.core.asked.catalogue import CatalogueEntry
from modswap.report.page import Page, as_json


def catalogue_table(entries: Sequence[CatalogueEntry], page: Page) -> str:
    """Return the catalogue as a table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("name", no_wrap=True, style="bold")
    table.add_column("what it does", overflow="fold")
    table.add_column("source", overflow="fold")
    for entry in entries:
        table.add_row(entry.name, entry.summary, entry.source)
    foot = "any other class: with: package.module:Class; more of one: modswap catalogue NAME"
    return page.render([table, Text(foot, "dim")])


def catalogue_entry(entry: CatalogueEntry, page: Page) -> str:
    """Return one entry: options, shapes, paper, an example rule."""
    return page.render(_entry(entry))


def _entry(entry: CatalogueEntry) -> Iterator[RenderableType]:
    yield Text.assemble((entry.name, "bold"), f"  {entry.summary}")
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column(overflow="fold")
    if entry.spellings:
        facts.add_row("also", ", ".join(entry.spellings))
    facts.add_row("source", entry.source)
    facts.add_row("shapes", entry.shapes)
    where = "".join(f"; {term}" for term in entry.terms)
    facts.add_row("FLOPs", Text.assemble(entry.flops, (f" a sample{where}", "dim")))
    facts.add_row("memory", Text.assemble(entry.memory, (" bytes a sample, meanwhile", "dim")))
    yield facts
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("option", "type", "default", "meaning"):
        table.add_column(name, overflow="fold")
    for option in entry.options:
        table.add_row(Text(option.name, "bold"), option.type, option.default, option.meaning)
    yield table
    yield Text("example", "cyan")
    yield Padding(Text(entry.example.rstrip()), (0, 0, 0, 2))


def catalogue_json(entries: Sequence[CatalogueEntry]) -> str:
    """Return entries as JSON."""
    return as_json([asdict(entry) for entry in entries])


def catalogue_page(entries: Sequence[CatalogueEntry]) -> str:
    """Return the documentation page."""
    lines = [
        "# Catalogue",
        "",
        "What a rule's `with` may name. Printed by `modswap catalogue --format markdown`.",
        "Any other class goes in as `package.module:Class`.",
    ]
    for entry in entries:
        lines += ["", f"## {entry.name}", "", f"{entry.summary}.", ""]
        if entry.spellings:
            lines += [f"- Also found as: {', '.join(entry.spellings)}"]
        lines += [f"- Source: {entry.source}", f"- Shapes: {entry.shapes}"]
        where = "".join(f", where `{term}`" for term in entry.terms)
        lines += [f"- FLOPs of a sample: `{entry.flops}`{where}"]
        lines += [f"- Memory of a sample, meanwhile, in bytes: `{entry.memory}`", ""]
        lines += ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{o.name}` | {o.type} | {o.default} | {o.meaning} |".replace("\n", " ")
            for o in entry.options
        ]
        lines += ["", "```yaml", entry.example.rstrip(), "```"]
    return "\n".join(lines) + "\n"

"""The module tree, for people and for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

from rich import box
from rich.table import Table
from rich.text import Text

from modswap.core.seen.tree import Tree, TreeRow
from modswap.core.words.printable import without_commands
from modswap.report.json_report import calls_as_data
from modswap.report.page import Page, as_json, bare, human_bytes
from modswap.report.tamed import tamed

PARAMETER = "Parameter"  # in the column of classes
OTHER_COLUMNS = 62  # columns that the rest of the tree's table needs
SHOWN_NAMES = 12  # names listed in a note
MIN_PATH_COLUMNS = 20  # columns that a path has at least
MAX_FOLDED_ROWS = 1000  # of a table whose cells are folded: 2,000 rows take a second


def tree_table(tree: Tree, rows: Sequence[TreeRow], page: Page) -> str:
    """Return the given rows of the tree as a table."""
    tree, rows = replace(tamed(tree), rows=tree.rows), tamed(tuple(rows))
    parts: list[Table | Text] = [] if len(rows) > MAX_FOLDED_ROWS else [_folding(tree, rows, page)]
    if len(rows) < len(tree.rows):
        parts.append(Text(f"{len(rows)} of {len(tree.rows)} modules shown", "dim"))
    parts += [Text.assemble(("note  ", "yellow"), note) for note in (*tree.notes, *_wanted(tree))]
    lines = _lines(tree, rows) if len(rows) > MAX_FOLDED_ROWS else ""
    return lines + (page.render(parts) if parts else "")


def _lines(tree: Tree, rows: Sequence[TreeRow]) -> str:
    """Return a long table, a line for each row, of any width."""
    head = ["path", "class", *(["input → output"] if tree.traced else []), "parameters", "size"]
    cells = [head]
    for row in rows:
        path = " ".join([row.path or "(the model)", *_also(row)])
        calls = [_calls(row).plain.replace("\n", ", ")] if tree.traced else []
        numbers = (f"{row.params:,}", human_bytes(row.nbytes))
        cells.append([path, bare(row.class_name) or "?", *calls, *numbers])
        blank = [""] if tree.traced else []
        cells += [[name, PARAMETER, *blank, *sizes] for name, *sizes in _own_parameters(row)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = len(head) - 2
    lines = (
        [*map(str.ljust, row[:numeric], widths), *map(str.rjust, row[numeric:], widths[numeric:])]
        for row in cells
    )
    return without_commands("".join("   ".join(line).rstrip() + "\n" for line in lines))


def _folding(tree: Tree, rows: Sequence[TreeRow], page: Page) -> Table:
    """Return a table that breaks long cells into lines."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    # users copy paths, so classes and shapes are folded first
    room = max(page.width - OTHER_COLUMNS, MIN_PATH_COLUMNS)
    table.add_column("path", no_wrap=True)
    table.add_column("class", overflow="fold")
    if tree.traced:
        table.add_column("input → output", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [_path(row, room), bare(row.class_name) or "?"]
        if tree.traced:
            cells.append(_calls(row))
        table.add_row(*cells, f"{row.params:,}", human_bytes(row.nbytes))
        blank = [""] if tree.traced else []
        for name, *sizes in _own_parameters(row):
            table.add_row(_folded(name, room), PARAMETER, *blank, *sizes)
    return table


def _own_parameters(row: TreeRow) -> Iterator[tuple[str, str, str]]:
    """Yield name, elements and bytes of the parameters beside the modules in a module."""
    prefix = f"{row.path}." if row.path else ""
    for one in row.bare:
        yield f"{prefix}{one.name}", f"{one.params:,}", human_bytes(one.nbytes)


def _wanted(tree: Tree) -> Iterator[str]:
    """Yield in words which names loading the file needs allowed."""
    dangerous = [one.name for one in tree.wanted if not one.option]
    options = [one.option for one in tree.wanted if one.option]
    if dangerous:
        yield (
            f"to load it, {_listed(dangerous)} would have to be called, which can run any code: "
            "do not load it unless it is your own"
        )
    if options:
        yield f"nothing was built; to load it, if you trust what it names: {_listed(options, ' ')}"


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f"{between}… ({len(names)} in all)" if len(names) > SHOWN_NAMES else ""
    return between.join(names[:SHOWN_NAMES]) + more


def _path(row: TreeRow, room: int) -> Text:
    shown = _folded(row.path, room) or "(the model)"
    text = Text(shown, "bold" if row.path.count(".") == 0 else "")
    for line in _also(row):
        text.append("\n" + _folded(line, room), "dim")
    return text


def _also(row: TreeRow) -> Iterator[str]:
    """Yield in words the module that a row repeats, its ties, and its names in the file."""
    if row.alias_of:
        yield f"= {row.alias_of}"
    yield from (f"{name} = {other}" for name, other in row.ties)
    if row.stored_as:
        yield f"in the file: {', '.join(row.stored_as)}"


def _folded(path: str, room: int) -> str:
    """Return a path in lines of so many columns, broken before dots where there are any."""
    lines = [""]
    for segment in path.split("."):
        piece = f".{segment}" if lines != [""] else segment
        if lines[-1] and len(lines[-1]) + len(piece) > room:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1]) > room:
            lines[-1:] = [lines[-1][:room], lines[-1][room:]]
    return "\n".join(lines)


def _calls(row: TreeRow) -> Text:
    if row.alias_of:
        return Text()
    if not row.calls:
        return Text("never called" if row.params else "", "yellow")
    first = row.calls[0]
    given = ", ".join(map(str, first.inputs))
    more = f"\n{len(row.calls)} calls" if len(row.calls) > 1 else ""
    return Text(f"{given} → {first.output}{more}")


def tree_json(tree: Tree, rows: Sequence[TreeRow]) -> str:
    """Return the tree, with the given rows, as one JSON object."""
    data = {
        "file": tree.file,
        "format": tree.format,
        "notes": list(tree.notes),
        "wanted": [asdict(one) for one in tree.wanted],
        "modules": [
            {
                "path": row.path,
                "class": row.class_name,
                "params": row.params,
                "bytes": row.nbytes,
                "alias_of": row.alias_of or None,
                "ties": dict(row.ties),
                "parameters": [
                    {"name": one.name, "params": one.params, "bytes": one.nbytes}
                    for one in row.bare
                ],
                "stored_as": list(row.stored_as),
                "calls": calls_as_data(row.calls),
            }
            for row in rows
        ],
    }
    return as_json(data)

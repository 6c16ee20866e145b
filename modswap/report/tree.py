"""The module tree, for people and for programs."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from modswap.core.seen.tree import OutputValues, Tree, TreeRow
from modswap.core.words.printable import without_commands
from modswap.report.json_report import calls_as_data
from modswap.report.page import SCHEMA, Page, as_json, bare, human_bytes, human_count
from modswap.report.tamed import tamed
from modswap.report.tree_rows import TreeLine, lines_of

MARK = "▶"  # before a line that is highlighted
ROUNDING = 1e-6  # of the standard deviation
PARAMETER = "Parameter"  # in the column of classes
OTHER_COLUMNS = 62  # columns that the rest of the tree's table needs
SHOWN_NAMES = 12  # names listed in a note
MIN_PATH_COLUMNS = 20  # columns that a path has at least
MAX_FOLDED_ROWS = 1000  # of a table whose cells are folded: 2,000 rows take a second


def tree_table(
    tree: Tree, rows: Sequence[TreeRow], page: Page, marked: Collection[str] = ()
) -> str:
    """Return the given rows of the tree as a table, those that are `marked` highlighted.

    Modules of a list that are equal, and follow one another, are one line, unless the page is
    verbose.
    """
    shown = len(rows)
    tree, rows = replace(tamed(tree), rows=tree.rows), tamed(tuple(rows))
    # where paths are selected, each is asked for
    lines = lines_of(rows, marked, fold=not page.verbose and rows[:1] == tamed(tree.rows[:1]))
    long = len(lines) > MAX_FOLDED_ROWS
    parts: list[Table | Text] = [] if long else [_folding(tree, lines, page)]
    if any(row.outputs for row in rows):
        parts += [Text(), _outputs(rows, page)]
    if shown < len(tree.rows):
        parts.append(Text(f"{shown} of {len(tree.rows)} modules shown", "dim"))
    parts.append(_total(tree))
    parts += [Text.assemble(("note  ", "yellow"), note) for note in (*tree.notes, *_wanted(tree))]
    return (_lines(tree, lines) if long else "") + page.render(parts)


def _total(tree: Tree) -> Text:
    """Return the sums of the whole model."""
    root = tree.rows[0]
    flops = "" if root.flops is None else f", {human_count(root.flops)} FLOPs"
    dtype = f", {root.dtype}" if root.dtype else ""
    words = f"{root.params:,} parameters, each once, {human_bytes(root.nbytes)}{dtype}{flops}"
    return Text.assemble(("total ", "bold"), words)


def _has_flops(lines: Sequence[TreeLine]) -> bool:
    return any(line.row.flops is not None for line in lines)


def _has_dtypes(tree: Tree) -> bool:
    """Return whether modules differ in dtype, so that each line has its own."""
    return len({row.dtype for row in tree.rows if row.dtype}) > 1


def _titles(tree: Tree, lines: Sequence[TreeLine]) -> list[str]:
    """Return the titles of the columns of numbers."""
    titles = ["parameters", "size"]
    titles += ["FLOPs"] if _has_flops(lines) else []
    return titles + (["dtype"] if _has_dtypes(tree) else [])


def _cells(row: TreeRow, titles: Sequence[str]) -> list[str]:
    """Return the numbers of a row in the order of their titles."""
    flops = "" if row.flops is None or row.alias_of else human_count(row.flops)
    known = {
        "parameters": f"{row.params:,}",
        "size": human_bytes(row.nbytes),
        "FLOPs": flops,
        "dtype": row.dtype,
    }
    return [known[title] for title in titles]


def _lines(tree: Tree, lines: Sequence[TreeLine]) -> str:
    """Return a long table, a line for each row, of any width."""
    titles = _titles(tree, lines)
    head = ["path", "class", *(["input → output"] if tree.traced else []), *titles]
    cells = [head]
    for line in lines:
        row = line.row
        path = " ".join([line.label or "(the model)", *_also(row)])
        calls = [_calls(row).plain.replace("\n", ", ")] if tree.traced else []
        cells.append([path, bare(row.class_name) or "?", *calls, *_cells(row, titles)])
        blank = [""] if tree.traced else []
        rest = [""] * (len(titles) - 2)
        cells += [[n, PARAMETER, *blank, *sizes, *rest] for n, *sizes in _own_parameters(line)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = len(head) - len(titles)
    texts = (
        [*map(str.ljust, row[:numeric], widths), *map(str.rjust, row[numeric:], widths[numeric:])]
        for row in cells
    )
    return without_commands("".join("   ".join(text).rstrip() + "\n" for text in texts))


def _folding(tree: Tree, lines: Sequence[TreeLine], page: Page) -> Table:
    """Return a table that breaks long cells into lines."""
    titles = _titles(tree, lines)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    # users copy paths, so classes and shapes are folded first
    room = max(page.width - OTHER_COLUMNS - 9 * (len(titles) - 2), MIN_PATH_COLUMNS)
    table.add_column("path", no_wrap=True)
    table.add_column("class", overflow="fold")
    if tree.traced:
        table.add_column("input → output", overflow="fold")
    for title in titles:
        table.add_column(title, justify="left" if title == "dtype" else "right", no_wrap=True)
    for line in lines:
        row = line.row
        cells: list[str | Text] = [_path(line, room), bare(row.class_name) or "?"]
        if tree.traced:
            cells.append(_calls(row))
        table.add_row(*cells, *_cells(row, titles))
        blank = [""] if tree.traced else []
        for name, *sizes in _own_parameters(line):
            table.add_row(_folded(name, room), PARAMETER, *blank, *sizes)
    return table


def _outputs(rows: Sequence[TreeRow], page: Page) -> Table:
    """Return a table of the values that modules put out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("output of", no_wrap=True)
    table.add_column("shape", overflow="fold")
    for title in ("mean", "std", "zeros"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in rows:
        for one in row.outputs:
            place = f"[{one.place}]" if one.place else ""
            call = f" #{one.call}" if one.call > 1 else ""
            name = _folded(f"{row.path or '(the model)'}{place}{call}", max(page.width - 46, 20))
            table.add_row(name, str(one.info), *_numbers(one), _odd(one))
    return table


def _numbers(one: OutputValues) -> tuple[str, str, str]:
    """Return mean, standard deviation and the share of zeros; a mean of rounding alone is 0."""
    share = "< 0.1 %" if 0 < one.zeros < 0.001 else f"{100 * one.zeros:.1f} %"
    if one.mean is None or one.std is None:
        return "-", "-", share
    mean = 0.0 if abs(one.mean) < ROUNDING * one.std else one.mean
    return f"{mean:.3g}", f"{one.std:.3g}", share


def _odd(one: OutputValues) -> Text:
    """Return in words how many values are not finite."""
    counts = ((one.nan, "NaN"), (one.infinite, "infinite"))
    return Text(", ".join(f"{count:,} {what}" for count, what in counts if count), "bold red")


def _own_parameters(line: TreeLine) -> Iterator[tuple[str, str, str]]:
    """Yield name, elements and bytes of the parameters beside the modules in a module."""
    prefix = f"{line.path}." if line.path else ""
    for one in line.row.bare:
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


def _path(line: TreeLine, room: int) -> Text:
    row = line.row
    shown = _folded(line.label, room) or "(the model)"
    text = Text(shown, "bold" if row.path.count(".") == 0 else "")
    if line.marked:
        text = Text(f"{MARK} {shown}", "bold green")
    for words in _also(row):
        text.append("\n" + _folded(words, room), "dim")
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


def tree_json(tree: Tree, rows: Sequence[TreeRow], marked: Collection[str] = ()) -> str:
    """Return the tree, with the given rows, as one JSON object; each path has a row of its own."""
    data = {
        "schema": SCHEMA,
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
                "dtype": row.dtype or None,
                "flops": row.flops,
                "outputs": [_output_as_data(one) for one in row.outputs],
                **({"highlighted": row.path in marked} if marked else {}),
            }
            for row in rows
        ],
    }
    return as_json(data)


def _output_as_data(one: OutputValues) -> dict[str, Any]:
    return {
        "call": one.call,
        "place": one.place,
        "shape": list(one.info.shape),
        "dtype": one.info.dtype,
        "mean": one.mean,
        "std": one.std,
        "zeros": one.zeros,
        "nan": one.nan,
        "infinite": one.infinite,
    }

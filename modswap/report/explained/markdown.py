"""A forward pass explained line by line, as Markdown."""

from collections.abc import Iterable, Iterator

from modswap.core.explained.record import Explained
from modswap.core.words.printable import tame, without_commands
from modswap.report.explained.labels import cells, closing, heading, label, shown_numbers, totals
from modswap.report.explained.layout import TableRow, rows_of
from modswap.report.page import Page

_BLANK = "\N{NO-BREAK SPACE}"  # which tables keep at the beginning of a cell


def explained_markdown(explained: Explained, language: str, page: Page) -> str:
    """Return the explanation as Markdown."""
    del page
    return without_commands("\n".join(_parts(explained, language)) + "\n")


def _parts(explained: Explained, language: str) -> Iterator[str]:
    yield f"## {_plain(explained.title)}"
    yield ""
    yield _plain(heading(explained, language))
    text = explained.text
    if text is not None:
        yield f"\n{_plain(text.summary.into(language))}\n"
        yield "```text"
        yield from map(tame, text.equations(language))
        yield "```\n"
        meanings = ((f"`{name}`", words.into(language)) for name, words in text.symbols.items())
        yield from _table([label("symbol", language), label("meaning", language)], meanings)
    if explained.options:
        yield ""
        heads = [label(name, language) for name in ("option", "value", "meaning")]
        yield from _table(heads, _options(explained, language))
    if explained.axes:
        axes = ", ".join(f"{name} = {size}" for name, size in explained.axes)
        yield f"\n{label('axes', language)}{_plain(axes)}"
    yield ""
    yield from _lines(explained, language)
    for sentence in closing(explained, language):
        yield f"\n{_plain(sentence)}"


def _options(explained: Explained, language: str) -> Iterator[tuple[str, ...]]:
    for one in explained.options:
        value = _code(one.value) if one.value else label("unknown", language)
        yield _code(one.name), value, _cell(one.words.into(language) if one.words else "")


def _lines(explained: Explained, language: str) -> Iterator[str]:
    whole = explained.numbers
    numbers = shown_numbers(explained)
    heads = [label(name, language) for name in ("line", "code", "sets", "step", *numbers)]
    rows = (
        _row(row, cells(row.numbers, whole)[: len(numbers)] if row.numbers else ())
        for row in rows_of(explained.root, language)
    )
    yield from _table(heads, rows)
    for name, total in totals(explained, language):
        yield _joined(("", f"**{name}**", "", "", *total))


def _row(row: TableRow, numbers: tuple[str, ...]) -> tuple[str, ...]:
    indent = _BLANK * row.indent
    shown = _cell(row.text) if row.kind == "skipped" else _code(row.text)
    values = "<br>".join(map(_cell, row.values))
    return str(row.line or ""), indent + shown, values, " ".join(map(_cell, row.words)), *numbers


def _table(heads: list[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield _joined(heads)
    yield _joined(["---"] * len(heads))
    for row in rows:
        yield _joined([*row, *[""] * (len(heads) - len(row))])


def _joined(row: Iterable[str]) -> str:
    return f"| {' | '.join(row)} |"


def _plain(text: str) -> str:
    """Return a text in which Markdown finds no markup and no HTML."""
    text = tame(text).replace("&", "&amp;").replace("<", "&lt;")
    for mark in "\\`*_[]|":
        text = text.replace(mark, f"\\{mark}")
    return text


def _cell(text: str) -> str:
    return _plain(text)


def _code(text: str) -> str:
    """Return a text as code in a cell of a table."""
    text = tame(text).replace("|", "\\|")
    fence = "`"
    while fence in text:
        fence += "`"
    blank = " " if "`" in text else ""
    return f"{fence}{blank}{text}{blank}{fence}"

"""A forward pass explained line by line, as text for a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modswap.core.explained.record import Explained
from modswap.report.explained.labels import cells, closing, heading, label, shown_numbers, totals
from modswap.report.explained.layout import TableRow, rows_of
from modswap.report.explained.sentence import sentence
from modswap.report.page import Page

_HANGING = 4  # blanks before what belongs to a line


def explained_text(explained: Explained, language: str, page: Page) -> str:
    """Return the explanation as text."""
    return page.render(_parts(explained, language))


def _parts(explained: Explained, language: str) -> Iterator[RenderableType]:
    yield sentence(heading(explained, language), "bold")
    text = explained.text
    if text is not None:
        yield sentence(text.summary.into(language))
        yield Text()
        yield Padding(Text("\n".join(text.equations(language))), (0, 0, 0, 2))
        meanings = [(symbol, words.into(language)) for symbol, words in text.symbols.items()]
        yield Padding(_pairs(meanings), (0, 0, 0, 2))
    if explained.options:
        yield Text()
        yield Padding(_options(explained, language), (0, 0, 0, 2))
    yield Text()
    if explained.axes:
        axes = ", ".join(f"{name} = {size}" for name, size in explained.axes)
        yield Text(f"{label('axes', language)}{axes}")
    yield _table(explained, language)
    yield from map(sentence, closing(explained, language))


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for first, second in pairs:
        table.add_row(first, sentence(second))
    return table


def _options(explained: Explained, language: str) -> Table:
    unknown = label("unknown", language)
    return _pairs(
        [
            (
                f"{one.name} = {one.value}" if one.value else one.name,
                (one.words.into(language) if one.words else "")
                + ("" if one.value else f" ({unknown})"),
            )
            for one in explained.options
        ]
    )


def _table(explained: Explained, language: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, 1), expand=True)
    table.add_column(Text(label("source", language), "dim"), ratio=1, overflow="fold")
    shown = shown_numbers(explained)
    for name in shown:
        table.add_column(Text(label(name, language), "dim"), justify="right", no_wrap=True)
    whole = explained.numbers
    for row in rows_of(explained.root, language):
        numbers = cells(row.numbers, whole)[: len(shown)] if row.numbers is not None else ()
        table.add_row(_cell(row), *numbers)
    for name, numbers in totals(explained, language):
        table.add_row(Text(name, "bold"), *numbers)
    return table


def _cell(row: TableRow) -> RenderableType:
    style = {"call": "bold", "skipped": "dim"}.get(row.kind, "")
    parts: list[RenderableType] = [Padding(_Hanging(row.text, style), (0, 0, 0, row.indent))]
    for style, texts in (("green", row.values), ("dim", row.words)):
        parts += [Padding(sentence(one, style), (0, 0, 0, row.indent + _HANGING)) for one in texts]
    return Group(*parts)


@dataclass(frozen=True, slots=True)
class _Hanging:
    """A line of source; what does not fit goes on below, further to the right."""

    text: str
    style: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = Text(self.text, self.style)
        if text.cell_len <= options.max_width:
            yield text
            return
        first, *others = text.wrap(console, max(8, options.max_width - _HANGING))
        yield first
        yield from (Padding(one, (0, 0, 0, _HANGING)) for one in others)

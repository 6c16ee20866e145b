"""Lines and columns in which no path, class name or shape is broken."""

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from modswap.report.page import Page

GAP = 2  # columns between two cells
# a word, or numbers in parentheses with their blanks: `(1, 64, 14, 14)`, `(-1.2 %)`, `(3.1 s)`
_WORD = re.compile(r"[^\s(]*\([-+×\d.,s% ]+\)\S*|\S+")


def wrapped(head: Text, text: str, page: Page) -> Iterator[Text]:
    """Yield a text behind its head, in lines that begin below the text.

    A word that is longer than the page goes beyond it.
    """
    lines = [""]
    for word in _WORD.findall(page.said(text)):
        if lines[-1] and head.cell_len + cell_len(lines[-1]) + 1 + cell_len(word) > page.width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    yield unbroken(Text.assemble(head, lines[0]))
    for line in lines[1:]:
        yield unbroken(Text(" " * head.cell_len + line))


def unbroken(text: Text) -> Text:
    """Return a text that keeps its line, however long it is."""
    text.no_wrap, text.overflow = True, "ignore"
    return text


def columns_width(rows: Sequence[Sequence[Text]]) -> int:
    """Return the width of a table of cells."""
    widths = _widths(rows)
    return sum(widths) + GAP * (len(widths) - 1)


def columns(rows: Sequence[Sequence[Text]], right: Sequence[int] = ()) -> Iterator[Text]:
    """Yield rows of cells as lines, the columns of these numbers aligned at the right."""
    widths = _widths(rows)
    for row in rows:
        line = Text()
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            blank = " " * (width - cell.cell_len)
            parts = (blank, cell) if number in right else (cell, blank)
            line.append_text(Text.assemble(" " * GAP if number else "", *parts))
        line.rstrip()
        yield unbroken(line)


def _widths(rows: Sequence[Sequence[Text]]) -> list[int]:
    return [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]

"""Sentences as they are broken into lines, Chinese ones by the rules of Chinese typesetting."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

_CLOSING = "，。、；：？！）》」』”’…"  # marks that begin no line
_OPENING = "（《「『“‘"  # marks that end no line
# a word of another script with the blank behind it, or a single wide character; each with its marks
_UNIT = re.compile(rf"[{_OPENING}]*(?:[\u0021-\u2017\u2020-\u2e7f]+|.)[{_CLOSING}]* *", re.DOTALL)


def sentence(text: str, style: str = "") -> RenderableType:
    """Return a text of one paragraph that fills the lines of its place."""
    return Text(text, style) if cell_len(text) == len(text) else _Chinese(text, style)


@dataclass(frozen=True, slots=True)
class _Chinese:
    """A text with wide characters, between which a line may end."""

    text: str
    style: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("\n".join(lines(self.text, options.max_width)), self.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, Text(self.text))


def lines(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a text; one that holds a single unit may be wider."""
    line = ""
    for unit in _UNIT.findall(text):
        if line and cell_len((line + unit).rstrip()) > width:
            yield line.rstrip()
            line = ""
        line += unit
    yield line

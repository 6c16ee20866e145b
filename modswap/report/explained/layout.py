"""The rows of an explained pass, in the order in which all its reports print them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from modswap.core.explained.record import Followed, Line, Numbers
from modswap.report.explained.labels import skipped

INDENT = 2  # blanks for each level of functions


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row: a line of source, a function that is followed, or lines that did not run."""

    kind: str  # line, call or skipped
    text: str
    indent: int = 0  # blanks
    numbers: Numbers | None = None
    values: tuple[str, ...] = ()  # what it set; the axes of its einsum
    words: tuple[str, ...] = ()
    line: int = 0  # number in the file; 0 for no line


def rows_of(function: Followed, language: str, level: int = 0) -> Iterator[TableRow]:
    """Yield the rows of a function, and of those that it calls."""
    waiting: list[Line] = []
    for line in own_lines(function):
        if not line.count:
            waiting.append(line)
            continue
        yield from _skipped(waiting, language, level)
        waiting = []
        yield _row(line, language, level)
        for inner in called(line):
            yield _call(inner, line, level)
            yield from rows_of(inner, language, level + 1 + (line.indent + INDENT) // INDENT)
    yield from _skipped(waiting, language, level)


def _skipped(lines: Sequence[Line], language: str, level: int) -> Iterator[TableRow]:
    """Yield the row in place of lines that did not run."""
    if lines:
        indent = min(line.indent for line in lines)
        yield TableRow("skipped", skipped(len(lines), language), level * INDENT + indent)


def _call(function: Followed, line: Line, level: int) -> TableRow:
    """Return the row of a function that a line calls; with numbers where that calls several."""
    return TableRow(
        "call",
        f"⤷ {called_words(function)}",
        line.indent + level * INDENT + INDENT,
        function.numbers if len(called(line)) > 1 else None,
        (str(function.returned),)
        if function.returned is not None and not own_lines(function)
        else (),
    )


def own_lines(function: Followed) -> tuple[Line, ...]:
    """Return the lines to show: of torch's containers those that call a layer."""
    if function.container:
        lines = (line for line in function.lines if line.calls)
        return tuple(replace(one, source=tuple(map(str.lstrip, one.source))) for one in lines)
    return function.lines


def _row(line: Line, language: str, level: int) -> TableRow:
    often = f"{line.count}× " if line.count > 1 else ""
    values = values_words(line)
    words = (line.words.into(language),) if line.words is not None else ()
    return TableRow(
        "line",
        often + line.text,
        level * INDENT + line.indent,
        line.numbers,
        values,
        words,
        line.first,
    )


def called(line: Line) -> tuple[Followed, ...]:
    """Return the functions of a line that are shown: all but a single one without lines."""
    if len(line.calls) == 1 and not own_lines(line.calls[0]):
        return ()
    return line.calls


def called_words(function: Followed) -> str:
    """Return the name of a function with the modules whose method it is."""
    often = f" {function.count}×" if function.count > 1 else ""
    paths = f" {', '.join(function.paths)}" if function.paths else ""
    return f"{function.name}{paths}{often}"


def values_words(line: Line) -> tuple[str, ...]:
    """Return the values that a line set, its marks and the axes of its einsum."""
    shown = ", ".join(map(str, line.values))
    marks = "".join(f" {mark}!" for mark in line.marks)
    legend = (line.legend,) if line.legend else ()
    return ((shown + marks).strip(), *legend) if shown or marks else legend

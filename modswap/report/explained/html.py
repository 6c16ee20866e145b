"""A forward pass explained line by line, as a page of HTML that needs nothing else."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from html import escape

from modswap.core.explained.record import Explained, Followed, Line
from modswap.core.words.printable import tame
from modswap.report.explained.labels import (
    cells,
    compared,
    heading,
    label,
    routing_measures,
    share_of,
    shown_numbers,
    skipped,
    totals,
)
from modswap.report.explained.layout import called, called_words, own_lines, values_words
from modswap.report.explained.routed import drawn_routing
from modswap.report.page import Page


def explained_html(explained: Explained, language: str, page: Page, picture: bytes = b"") -> str:
    """Return the explanation as a page of HTML; `picture` is that of its routing, as JPEG."""
    # its import takes a tenth of a second, which the other forms do not need
    from modswap.report.web.again import explained_again
    from modswap.report.web.frame import framed

    routing = explained.routing
    return framed(
        "explained.html",
        title=explained.title,
        language=language,
        heading=heading(explained, language),
        routed=None if routing is None else drawn_routing(routing, picture, language),
        measures=routing_measures(explained, language),
        notes=[note.into(language) for note in explained.notes],
        again=explained_again(page.args),
        label=lambda name: label(name, language),
        parts="\n".join(_parts(explained, language)),
    )


def _text(text: str) -> str:
    return escape(tame(text))


def _parts(explained: Explained, language: str) -> Iterator[str]:
    text = explained.text
    if text is not None:
        yield f"<p>{_text(text.summary.into(language))}</p>"
        yield "<pre>" + "\n".join(map(_text, text.equations(language))) + "</pre>"
        meanings = ((name, "", words.into(language)) for name, words in text.symbols.items())
        yield _facts(meanings)
    if explained.options:
        unknown = label("unknown", language)
        yield f"<h2>{_text(label('options', language))}</h2>"
        yield _facts(
            (one.name, one.value or unknown, one.words.into(language) if one.words else "")
            for one in explained.options
        )
    if explained.axes:
        axes = ", ".join(f"{name} = {size}" for name, size in explained.axes)
        yield f"<p>{_text(label('axes', language))}<code>{_text(axes)}</code></p>"
    yield _Lines(explained, language).whole(explained.root)
    yield "".join(f"<p>{_text(sentence)}</p>" for sentence in compared(explained, language))


def _facts(rows: Iterable[tuple[str, str, str]]) -> str:
    cells_ = (
        f"<tr><td><code>{_text(name)}</code></td>"
        + (f"<td><code>{_text(value)}</code></td>" if value else "")
        + f"<td>{_text(meaning)}</td></tr>"
        for name, value, meaning in rows
    )
    return f"<table><tbody>{''.join(cells_)}</tbody></table>"


class _Lines:
    """The tables of functions, one inside another."""

    def __init__(self, explained: Explained, language: str) -> None:
        self._whole = explained.numbers
        self._language = language
        self._numbers = shown_numbers(explained)
        self._totals = totals(explained, language)

    def whole(self, function: Followed) -> str:
        """Return the table of the forward, with the sums of its lines."""
        rows = (
            f'<tr><td></td><th scope="row">{_text(name)}</th>'
            + "".join(f'<td class="n">{one}</td>' for one in numbers)
            + "</tr>"
            for name, numbers in self._totals
        )
        body = self.table(function).removesuffix("</table>")
        table = f"{body}<tfoot>{''.join(rows)}</tfoot></table>"
        said = _text(label("source", self._language))
        return f'<div class="wide" tabindex="0" role="group" aria-label="{said}">{table}</div>'

    def table(self, function: Followed) -> str:
        """Return the table of a function's lines."""
        names = ("line", "source", *self._numbers)
        heads = "".join(f"<th>{_text(label(name, self._language))}</th>" for name in names)
        rows = "".join(self._rows(function))
        return f'<table class="lines"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'

    def _rows(self, function: Followed) -> Iterator[str]:
        waiting = 0
        for line in own_lines(function):
            if not line.count:
                waiting += 1
                continue
            yield self._skipped(waiting)
            waiting = 0
            yield self._row(line)
        yield self._skipped(waiting)

    def _skipped(self, count: int) -> str:
        if not count:
            return ""
        words = _text(skipped(count, self._language))
        return f'<tr class="skipped"><td></td><td>{words}</td></tr>'

    def _row(self, line: Line) -> str:
        often = f"{line.count}\N{MULTIPLICATION SIGN} " if line.count > 1 else ""
        source = "\n".join(map(_text, line.source))
        parts = [f"<code>{often}{source}</code>"]
        bare = replace(line, marks=())  # which have a colour of their own
        parts += [f'<div class="set"><code>{_text(one)}</code></div>' for one in values_words(bare)]
        parts += [f'<span class="mark">{_text(mark)}!</span> ' for mark in line.marks]
        if line.words is not None:
            parts.append(f'<div class="step">{_text(line.words.into(self._language))}</div>')
        parts += map(self._call, called(line))
        numbers = cells(line.numbers, self._whole)[: len(self._numbers)]
        bar = share_of(line.numbers.seconds, self._whole.seconds)
        shown = "".join(f'<td class="n">{one}</td>' for one in numbers)
        if bar:
            width = (
                '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"'
                f'><rect width="{100 * min(bar, 1):.0f}" height="4"/></svg>'
            )
            shown = shown.removesuffix("</td>") + f"{width}</td>"
        return f'<tr><td class="no">{line.first}</td><td>{"".join(parts)}</td>{shown}</tr>\n'

    def _call(self, function: Followed) -> str:
        name = f"<code>{_text(called_words(function))}</code>"
        if function.returned is not None:
            name += f' <code class="set">{_text(str(function.returned))}</code>'
        if not own_lines(function):
            return f"<div>{name}</div>"
        place = _text(f"{function.file}:{function.first}")
        table = self.table(function)
        return f'<details open><summary title="{place}">{name}</summary>{table}</details>'

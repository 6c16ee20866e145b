"""The page of a report, and words and numbers that reports share."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from modswap.core.kept.outcome import SiteOutcome
from modswap.core.words.printable import tame_lines, without_commands

SCHEMA: Literal[1] = 1  # of JSON reports; it grows where a key changes its meaning, or goes
# characters of reports, in ASCII
_IN_ASCII = {
    "→": "->", "×": "x", "–": "-", "…": "...", "✗": "x", "✓": "ok", "─": "-", "│": "|", "▶": ">",
    "²": "2",
}  # fmt: skip
MARKS = "".join(_IN_ASCII)
_TO_ASCII = str.maketrans(_IN_ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """The page that a report is written on."""

    width: int = 100  # columns
    color: bool = False  # whether the reader shows colours
    verbose: bool = False  # whether the report is detailed
    args: tuple[str, ...] = ()  # words of the command that was typed; empty for none
    ascii: bool = False  # whether the reader shows no other characters

    def said(self, text: str) -> str:
        """Return a text with the marks of reports in characters that the reader shows."""
        return text.translate(_TO_ASCII) if self.ascii else text

    def render(self, parts: Iterable[RenderableType]) -> str:
        """Return parts as text, below each other, without blanks at the ends of lines."""
        stream = StringIO()
        console = Console(
            file=stream,
            width=self.width,
            force_terminal=self.color,
            no_color=not self.color,
            color_system="standard" if self.color else None,
            highlight=False,
            emoji=False,
        )
        for part in parts:
            console.print(_Tamed(part), crop=False)
        lines = self.said(without_commands(stream.getvalue())).split("\n")
        return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


@dataclass(frozen=True, slots=True)
class _Tamed:
    """A part of a report whose texts bring no colours or escape sequences of their own."""

    part: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self.part, options):
            yield Segment(tame_lines(text), style, control)


def as_json(data: Any) -> str:
    """Return plain data as JSON of several lines, in ASCII."""
    text = json.dumps(data, indent=2, allow_nan=False)
    # only texts have a `#`; in a log, `##[` begins a command
    return text.replace("##", "#\\u0023") + "\n"


def human_bytes(count: int) -> str:
    """Return a number of bytes for people, such as `4.2 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_count(count: int) -> str:
    """Return a number for people, such as `4.2 G`."""
    number = float(count)
    for unit in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{count}" if not unit else f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} P"


_BESIDE = {"after": " after it", "before": " before it", "around": " beside it"}
_FADED = ", faded in"


def change_parts(site: SiteOutcome) -> tuple[str, str, str]:
    """Return what happened at a site: what was there, the new module, and where that is."""
    old, new = bare(site.old_class), bare(site.new_class)
    if not site.new_class:
        return old, "", " taken out"
    if site.place in _BESIDE:
        return f"{old}, ", new, _BESIDE[site.place]
    return f"{old} → ", new, _FADED if site.place else ""


def change_words(site: SiteOutcome) -> str:
    """Return the same in words."""
    return "".join(change_parts(site))


def params_words(site: SiteOutcome) -> str:
    """Return the parameters of a site before and after, or of both modules where both stay."""
    sign = "+" if site.place else "→"
    return f"{site.old_params:,} {sign} {site.new_params:,}"


def bare(class_name: str) -> str:
    """Return a class name without its modules."""
    return class_name.rsplit(".", 1)[-1]

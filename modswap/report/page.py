"""The page of a report, and words and numbers that reports share."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType

from modswap.core.words.printable import tame


@dataclass(frozen=True, slots=True)
class Page:
    """The page that a report is written on."""

    width: int = 100  # columns
    color: bool = False  # whether the reader shows colours
    verbose: bool = False  # whether the report is detailed

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
            console.print(part)
        lines = tame(stream.getvalue()).split("\n")
        return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def as_json(data: Any) -> str:
    """Return plain data as JSON of several lines."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def human_bytes(count: int) -> str:
    """Return a number of bytes for people, such as `4.2 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def bare(class_name: str) -> str:
    """Return a class name without its modules."""
    return class_name.rsplit(".", 1)[-1]

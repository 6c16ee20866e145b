"""The progress of a run on a terminal: what passes is shown in one place, which is then cleared."""

import sys
import time
from datetime import timedelta
from math import inf

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from modswap.core.healed.progress import FitProgress, FitStep
from modswap.core.progress import Passing, Progress
from modswap.core.words.printable import tame

_SECONDS = 0.1  # between two pictures
_BAR = 24  # columns


class LiveProgress:
    """Steps on a terminal: lines for those that stay, a place below them for those that pass.

    Args:
        lines: Prints a step that stays.
        color: Whether colours are allowed.
    """

    def __init__(self, lines: Progress, *, color: bool) -> None:
        self._lines = lines
        self._color = color
        self._live: Live | None = None
        self._shown = -inf

    def __call__(self, text: str) -> None:
        """Show a step."""
        if not isinstance(text, Passing):
            self.close()
            self._lines(text)
            return
        now = time.monotonic()
        if self._live is None:
            console = Console(
                file=sys.stderr, no_color=not self._color, highlight=False, emoji=False
            )
            # what the model's own code prints meanwhile goes above
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        elif now - self._shown < _SECONDS:
            return
        self._shown = now
        self._live.update(_view(text), refresh=True)

    def close(self) -> None:
        """Clear the place of what passes."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _view(text: Passing) -> RenderableType:
    if isinstance(text, FitStep):
        return _fit(text.now)
    return Text(tame(f"… {text}"), "dim", overflow="ellipsis", no_wrap=True)


def _fit(now: FitProgress) -> RenderableType:
    """Return two lines on a fit: where it is, and its numbers."""
    head = Table.grid(padding=(0, 1))
    for _ in range(2):
        head.add_column(no_wrap=True)
    head.add_column(no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(now.steps, now.step, width=_BAR)
    head.add_row(f"stage {now.stage}", bar, Text(tame(now.site), "cyan"))
    agreed = "" if now.agreement is None else f"{now.agreement.metric} {now.agreement.value:.3f} · "
    left = timedelta(seconds=round(now.seconds_left))
    numbers = (
        f"step {now.step:,} of {now.steps:,} · {left} left · loss {now.loss:.3g} · {agreed}"
        f"{now.samples_per_second:,.0f} samples/s"
    )
    return Group(head, Text(numbers, no_wrap=True, overflow="ellipsis"))

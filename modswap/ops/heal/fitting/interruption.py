"""Ctrl-C noted during a step, and heard at its end."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ONE_PRESS_SECONDS = 1.0  # a terminal and a parent process both pass on one press


class Interruption:
    """A press of Ctrl-C that was noted; false until there is one."""

    def __init__(self, before: Any) -> None:
        self.before = before
        self.pressed: float | None = None
        self.taken = False  # whether somebody ends for it

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a press; a second one, a second later, does what Ctrl-C did before."""
        if self.pressed is None:
            self.pressed = time.monotonic()
        elif time.monotonic() - self.pressed >= _ONE_PRESS_SECONDS and callable(self.before):
            self.before(number, frame)

    def __bool__(self) -> bool:
        return self.pressed is not None


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Note Ctrl-C in a block, in the main thread, where it is not ignored.

    A press that the block has not taken does after it what Ctrl-C did before.
    """
    before = signal.getsignal(signal.SIGINT)
    noted = Interruption(before)
    heard = threading.current_thread() is threading.main_thread() and callable(before)
    if not heard:
        yield noted
        return
    signal.signal(signal.SIGINT, noted.note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
    if noted and not noted.taken:
        signal.raise_signal(signal.SIGINT)

"""Progress: a function that takes the current step in words."""

from collections.abc import Callable

Progress = Callable[[str], None]


class Passing(str):
    """A step in words, such as a count, that the next one replaces where that can be shown."""

    __slots__ = ()


def silent(_: str) -> None:
    """Report no progress."""

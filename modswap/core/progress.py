"""Progress: a function that is told, in words, what is being done."""

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Report no progress."""

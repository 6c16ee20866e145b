"""Progress: a function that takes the current step in words."""

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Report no progress."""

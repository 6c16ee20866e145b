"""Report a lack of memory as such, and not as a damaged file."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modswap.core.errors import CheckpointError

# texts of torch's allocators, of the operating system, and of C++
_TEXTS = ("not enough memory", "allocate memory", "out of memory", "bad_alloc")


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error, or an error that caused it, is a lack of memory."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return True
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if isinstance(cause, RuntimeError) and any(text in str(cause).lower() for text in _TEXTS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def no_memory(file: Path | str = "") -> CheckpointError:
    """Return the error for a file that takes more memory than there is."""
    what = "there is not enough memory for it"
    return CheckpointError(
        what, str(file), "close other programs, or use a machine with more memory"
    )


@contextmanager
def enough_memory(file: Path) -> Iterator[None]:
    """Raise the error of this file if the block runs out of memory.

    Raises:
        CheckpointError: If it does.
    """
    try:
        yield
    except MemoryError as error:
        raise no_memory(file) from error

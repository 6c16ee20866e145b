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
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM:
            return True
        if isinstance(cause, RuntimeError) and any(text in str(cause).lower() for text in _TEXTS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def enough_memory(file: Path) -> Iterator[None]:
    """Turn any error that a lack of memory caused in a reader or writer of a file into one error.

    Raises:
        CheckpointError: If the block runs out of memory.
    """
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        fix = "close other programs, or use a machine with more memory"
        raise CheckpointError("there is not enough memory for it", str(file), fix) from error

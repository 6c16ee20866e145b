"""A run of the command, and a limit on the files that it may write, for several tests."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Ran(NamedTuple):
    """How a run of the command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


@contextmanager
def no_file_above(nbytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

"""The state of a file by which a change of it is noticed."""

from typing import NamedTuple


class Stamp(NamedTuple):
    """The identity of a file, its size, and the times of its last changes."""

    name: str  # relative to the folder that was read; empty for a file that was read by itself
    device: int
    inode: int
    nbytes: int = 0
    mtime_ns: int = 0  # of its content
    ctime_ns: int = 0  # of its content, its name, its permissions


Stamps = tuple[Stamp, ...]

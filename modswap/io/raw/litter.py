"""Name, lock and remove temporary files and folders, those of killed processes included."""

import errno
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":  # pragma: no branch - Windows has no such module
    import fcntl

_BEGIN, _END = ".modswap-", ".part"
_LITTER = re.compile(rf"{re.escape(_BEGIN)}[0-9]+-[0-9a-f]{{8}}{re.escape(_END)}")
# nothing waits for the writer of a pipe, and no link is followed
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
# errors of file systems without locks, or without locks on files that are open for reading
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF)


def temporary_name(parent: Path) -> Path:
    """Return a new name for a temporary file or folder in a folder."""
    # of a fixed length: with a part of the target's name it could become too long
    return parent / f"{_BEGIN}{os.getpid()}-{secrets.token_hex(4)}{_END}"


def has_temporary_name(file: Path) -> bool:
    """Return whether a file has a name that the next write beside it may remove as litter."""
    return _LITTER.fullmatch(file.name) is not None


def remove_litter(parent: Path) -> None:
    """Remove the temporary files of killed processes; a running one holds a lock on its own."""
    for place in named(parent, _LITTER):
        with abandoned(place) as free:
            if free and place.lstat().st_uid == getattr(os, "geteuid", int)():
                remove(place)


def named(parent: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Return the entries of a folder whose whole names match; none of an unreadable folder."""
    try:
        return sorted(place for place in parent.iterdir() if pattern.fullmatch(place.name))
    except OSError:
        return []


@contextmanager
def abandoned(place: Path) -> Iterator[bool]:
    """Lock a file or folder within the block; yield whether that worked, so nobody is at it.

    Anything else of this name, as a link or a pipe, is left alone.
    """
    descriptor = -1
    with suppress(OSError):
        mode = place.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            descriptor = os.open(place, _FLAGS)
    try:
        yield descriptor >= 0 and lock(descriptor) and is_at(place, descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def is_at(place: Path, descriptor: int) -> bool:
    """Return whether an open file or folder is still at a place."""
    try:
        return os.path.samestat(place.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def lock(descriptor: int) -> bool:
    """Lock a file until it is closed; return False if it cannot be locked, as by another process.

    Raises:
        OSError: If the system fails at it.
    """
    if sys.platform == "win32":  # pragma: no cover - the tests do not run on Windows
        return False  # Windows removes no open file
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:  # a file system without locks
            return False
        raise
    return True


def remove(place: Path) -> None:
    """Remove a file, or a folder with everything in it, as far as the system lets."""
    with suppress(OSError):
        if not stat.S_ISDIR(place.lstat().st_mode):
            place.unlink()
            return
        shutil.rmtree(place, ignore_errors=True)
        if place.exists():  # a folder in it may be protected from writing
            for folder, _, _ in os.walk(place):
                Path(folder).chmod(0o700)
            shutil.rmtree(place, ignore_errors=True)

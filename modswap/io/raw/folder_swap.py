"""Put a new folder in the place of an old one, so that one of both is there at any moment."""

import errno
import os
import platform
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from modswap.io.raw.litter import abandoned, named, remove, temporary_name

# errors of a system or a file system without an exchange; old sandboxes answer with EPERM
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
_NUMBERS = {  # of renameat2, for libraries of C that have no function for it
    "x86_64": 316, "aarch64": 276, "riscv64": 276, "loongarch64": 276, "ppc64le": 357,
    "s390x": 347, "i686": 353, "armv7l": 382,
}  # fmt: skip
_HERE = -100  # names are relative to the working folder
_SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_KEPT_CHARACTERS = 50  # of the target's name in the name of the old folder

Way = Callable[[bytes, bytes], int]  # two names → 0, or the number of an error


def by_name(first: bytes, second: bytes) -> int:
    """Exchange two names by the function of the library of C, where it has one."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":  # pragma: no cover - the tests run on Linux
        call = getattr(library, "renamex_np", None)
        given: tuple[int | bytes, ...] = (first, second, _SWAP)
    else:
        call = getattr(library, "renameat2", None)
        given = (_HERE, first, _HERE, second, _SWAP)
    if call is None:
        return errno.ENOSYS
    return ctypes.get_errno() if call(*given) else 0


def by_number(first: bytes, second: bytes) -> int:
    """Exchange two names by the number of the system call of Linux."""
    import ctypes

    number = _NUMBERS.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return errno.ENOSYS
    library = ctypes.CDLL(None, use_errno=True)
    numbers = (ctypes.c_long(value) for value in (number, _HERE, _HERE, _SWAP))
    call, here, there, swap = numbers
    return ctypes.get_errno() if library.syscall(call, here, first, there, second, swap) else 0


WAYS: tuple[Way, ...] = () if sys.platform == "win32" else (by_name, by_number)


def exchanged(first: Path, second: Path) -> bool:
    """Exchange two files or folders in one step; return False where the system cannot do so.

    Raises:
        OSError: If the system can, and refuses.
    """
    for way in WAYS:
        number = way(os.fsencode(first), os.fsencode(second))
        if not number:
            return True
        if number not in _UNABLE:
            raise OSError(number, os.strerror(number), str(second))
    return False


def put_folder(temporary: Path, target: Path, flush: Callable[[Path], None]) -> None:
    """Move a folder to its target; what was there gets the folder's temporary name.

    Where the system cannot exchange the two in one step, the old one has a name of its own for a
    moment: if the process is killed then, `put_back` gives it its place again.

    Args:
        temporary: The new folder, already flushed to the disk.
        target: Its place, in the same folder.
        flush: Flushes a folder to the disk.

    Raises:
        OSError: If the system refuses; the target is as it was.
    """
    if not os.path.lexists(target):
        temporary.rename(target)
        return
    with suppress(OSError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    flush(temporary)
    if not exchanged(temporary, target):
        with abandoned(target):  # locked, so that another process does not put it back meanwhile
            _put_in_steps(temporary, target, flush)


def _put_in_steps(temporary: Path, target: Path, flush: Callable[[Path], None]) -> None:
    old = kept_name(target, temporary)
    target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        old.rename(target)
        raise
    flush(target.parent)
    with suppress(OSError):  # else `put_back` removes it
        old.rename(temporary)


def kept_name(target: Path, new: Path) -> Path:
    """Return the name of an old folder while a new one is put in its place.

    It names the target, and by its inode the new folder; no temporary file has such a name.
    """
    return target.parent / f"{_beginning(target)}{new.lstat().st_ino:x}.old"


def _beginning(target: Path) -> str:
    return f".{target.name[:_KEPT_CHARACTERS]}.modswap-"


def put_back(target: Path) -> None:
    """Finish what a killed process began, that could not put a folder in its place in one step.

    If the target is missing, the old folder gets its place again; if the new folder is there, the
    old one is removed.

    Raises:
        OSError: If the system refuses.
    """
    pattern = re.compile(f"{re.escape(_beginning(target))}[0-9a-f]+[.]old", re.DOTALL)
    for old in named(target.parent, pattern):
        with abandoned(old) as free:
            if free and not os.path.lexists(target):
                old.rename(target)
            elif free and old == kept_name(target, target):
                litter = temporary_name(target.parent)
                old.rename(litter)  # removed in part, it must not be put back
                remove(litter)

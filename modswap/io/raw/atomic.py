"""Replace a file or a folder as a whole, so that no other program ever sees half of it."""

import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modswap.core.errors import CheckpointError
from modswap.io.raw.memory import enough_memory

if sys.platform != "win32":  # pragma: no branch - Windows has no such module
    import fcntl

_BEGIN, _END = ".modswap-", ".part"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(
    out: Path,
    *,
    force: bool,
    folder: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> Iterator[Path]:
    """Yield an empty file or folder beside `out`, and move it to `out` if the block succeeds.

    `ready` is called directly before the move; an error of it stops the move.

    The temporary file is flushed to the disk before it is moved. If the block raises, the temporary
    file is removed and `out` is unchanged; if the process is killed, the next process that writes
    into this folder removes it. A symbolic link at `out` stays, and its target is replaced.

    Raises:
        CheckpointError: If `out` exists without `force`, or cannot be written.
    """
    target = out.resolve()
    if target.exists() and not force:
        raise exists(out)
    try:
        with enough_memory(out), _temporary(target.parent, folder=folder) as temporary:
            yield temporary
            if folder:
                ready()
                _put_folder(temporary, target)
            else:
                _flush(temporary)
                temporary.chmod(_mode(target))
                ready()
                _put(temporary, target, out, force=force)
            _flush(target.parent)
    except OSError as error:
        raise refused(out, error) from error


@contextmanager
def _temporary(parent: Path, *, folder: bool) -> Iterator[Path]:
    """Yield a new file or folder, locked meanwhile; remove it at the end if it was not moved."""
    remove_litter(parent)
    place, held = _created(parent, folder=folder)
    try:
        yield place
    finally:
        _remove(place)
        os.close(held)


def _created(parent: Path, *, folder: bool) -> tuple[Path, int]:
    while True:
        place = _name(parent)
        if folder:
            place.mkdir()
        else:
            place.touch(exist_ok=False)
        held = os.open(place, os.O_RDONLY)
        lock(held)
        if os.fstat(held).st_nlink:
            return place, held
        os.close(held)  # another process removed it as litter before it was locked


def _name(parent: Path) -> Path:
    # of a fixed length: with a part of the target's name it could become too long
    return parent / f"{_BEGIN}{os.getpid()}-{secrets.token_hex(4)}{_END}"


def remove_litter(parent: Path) -> None:
    """Remove the temporary files of killed processes; a running one holds a lock on its own."""
    for place in parent.glob(f"{_BEGIN}*{_END}"):
        with suppress(OSError):
            held = os.open(place, os.O_RDONLY)
            if lock(held):
                _remove(place)
            os.close(held)


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        with suppress(OSError):
            place.unlink(missing_ok=True)


def _put_folder(temporary: Path, target: Path) -> None:
    """Move a folder to its target; an old folder there is removed after the new one is flushed."""
    for place in (*temporary.rglob("*"), temporary):
        _flush(place)
    if not target.exists():
        temporary.rename(target)
        return
    old = _name(target.parent)
    target.rename(old)
    temporary.rename(target)
    _remove(old)


def lock(descriptor: int) -> bool:
    """Lock a file until it is closed; return False if another process has locked it."""
    if sys.platform == "win32":  # pragma: no cover - the tests do not run on Windows
        return False  # Windows removes no open file
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _put(temporary: Path, target: Path, out: Path, *, force: bool) -> None:
    """Move a file to its target in one step; without `force` only if the target does not exist."""
    if force:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, it fails if the target exists
    except FileExistsError:
        raise exists(out) from None  # another process wrote it meanwhile
    except OSError:
        if target.exists():
            raise exists(out) from None
        temporary.replace(target)  # the file system has no hard links


def exists(out: Path) -> CheckpointError:
    """Return the error for a target that exists."""
    return CheckpointError("it exists", str(out), "name another file, or add --force")


def refused(out: Path, error: OSError) -> CheckpointError:
    """Return the error for a write that the operating system refused."""
    if error.errno in FULL:
        free = _free(out.parent)
        what = f"no space left to write it ({free:,} bytes free)"
        return CheckpointError(what, str(out), "free some space, or write to another disk")
    reason = error.strerror or str(error)
    return CheckpointError(f"it cannot be written: {reason}", str(out), "check the folder")


def _free(folder: Path) -> int:
    with suppress(OSError):
        return shutil.disk_usage(folder).free
    return 0


def _mode(target: Path) -> int:
    """Return the permissions of the replaced file, or those of a new file."""
    with suppress(OSError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _flush(place: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not place.is_dir():
            raise  # some file systems cannot flush folders
    finally:
        os.close(descriptor)


def digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

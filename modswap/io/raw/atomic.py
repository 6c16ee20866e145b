"""A whole new file or the old one, never a piece of either."""

import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modswap.core.errors import CheckpointError

if sys.platform != "win32":  # pragma: no branch - what stands for it is not there
    import fcntl

_BEGIN, _END = ".modswap-", ".part"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(out: Path, *, force: bool, folder: bool = False) -> Iterator[Path]:
    """Give an empty file beside `out`; put it in the place of `out` if the block succeeds.

    What was written is flushed to the disk first. If the block raises, whatever it was, the
    temporary file is removed and `out` is as it was; if the process is killed, the next one that
    writes into this folder removes it. A symbolic link is written through.

    Args:
        out: The file to be written.
        force: Whether it may exist.
        folder: Whether it is to be a folder.

    Raises:
        CheckpointError: If it cannot be written.
    """
    target = out.resolve()
    if target.exists() and not force:
        raise exists(out)
    try:
        with _temporary(target.parent, folder=folder) as temporary:
            yield temporary
            if folder:
                _put_folder(temporary, target)
            else:
                _flush(temporary)
                temporary.chmod(_mode(target))
                _put(temporary, target, out, force=force)
            _flush(target.parent)
    except OSError as error:
        raise refused(out, error) from error


@contextmanager
def _temporary(parent: Path, *, folder: bool) -> Iterator[Path]:
    """Give a new file or folder, locked while the block runs, and remove what is left of it."""
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
        os.close(held)  # another process took it for litter before it was locked


def _name(parent: Path) -> Path:
    # of its own length, so that a long name beside it stays possible
    return parent / f"{_BEGIN}{os.getpid()}-{secrets.token_hex(4)}{_END}"


def remove_litter(parent: Path) -> None:
    """Remove what writers that were killed left in a folder; living ones hold locks on theirs."""
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
    """Put a folder in its place; one that stands there goes, once the new one is on the disk."""
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
    """Lock a file until it is closed; return False if another process holds a lock on it."""
    if sys.platform == "win32":  # pragma: no cover - none of the tests runs there
        return False  # a file that is open cannot be removed there
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _put(temporary: Path, target: Path, out: Path, *, force: bool) -> None:
    """Put a file in its place, at once; without force only if nothing is there."""
    if force:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)  # unlike a rename it fails where there is something
    except FileExistsError:
        raise exists(out) from None  # it appeared while this one was being written
    except OSError:
        if target.exists():
            raise exists(out) from None
        temporary.replace(target)  # a file system without links


def exists(out: Path) -> CheckpointError:
    """Return the error for a target that is there already."""
    return CheckpointError("it exists", str(out), "name another file, or add --force")


def refused(out: Path, error: OSError) -> CheckpointError:
    """Return the error for what the operating system refuses."""
    if error.errno in FULL:
        free = _free(out.parent)
        what = f"no space left to write it ({free:,} bytes free)"
        return CheckpointError(what, str(out), "free some space, or write to another disk")
    reason = error.strerror or str(error)
    return CheckpointError(f"it cannot be written: {reason}", str(out), "check the folder")


def _free(folder: Path) -> int:
    try:
        state = os.statvfs(folder)
    except OSError:
        return 0
    return state.f_bavail * state.f_frsize


def _mode(target: Path) -> int:
    """Return the permissions of the file that is replaced, or of any new file."""
    with suppress(OSError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _flush(place: Path) -> None:
    """Have a file or a folder put on the disk."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not place.is_dir():
            raise  # not every file system can do it with folders
    finally:
        os.close(descriptor)


def digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

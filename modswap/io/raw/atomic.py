"""Replace a file or a folder as a whole, so that no other program ever sees half of it."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modswap.core.errors import CheckpointError
from modswap.io.raw.folder_swap import put_back, put_folder
from modswap.io.raw.litter import is_at, lock, remove, remove_litter, temporary_name
from modswap.io.raw.memory import enough_memory

# errors of file systems that cannot flush folders
_NO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES)
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
    try:
        put_back(target)
        remove_litter(target.parent)
        if target.exists() and not force:
            raise exists(out)
        with enough_memory(out), _temporary(target.parent, folder=folder) as temporary:
            yield temporary
            if folder:
                _flush_all(temporary)
                ready()
                put_folder(temporary, target, _flush_moves)
            else:
                _flush(temporary, _mode(target))
                ready()
                _put(temporary, target, out, force=force)
            _flush_moves(target.parent)
    except OSError as error:
        raise refused(out, error) from error


@contextmanager
def _temporary(parent: Path, *, folder: bool) -> Iterator[Path]:
    """Yield a new file or folder, locked meanwhile; at the end remove what has its name."""
    place, held = _created(parent, folder=folder)
    try:
        yield place
    finally:
        remove(place)
        with suppress(OSError):
            os.close(held)


def _created(parent: Path, *, folder: bool) -> tuple[Path, int]:
    while True:
        place, held = temporary_name(parent), -1
        if folder:
            place.mkdir()
        else:
            place.touch(exist_ok=False)
        try:
            held = os.open(place, os.O_RDONLY if folder else os.O_RDWR)
            lock(held)
            if is_at(place, held):
                return place, held
            os.close(held)  # another process removed it as litter before it was locked
        except OSError:
            remove(place)
            if held >= 0:
                os.close(held)
            raise


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


def _flush_all(folder: Path) -> None:
    """Flush a folder to the disk, with all that is in it; links are no files of their own."""
    for inner, _, names in os.walk(folder, topdown=False, onerror=_raise):
        for name in names:
            place = Path(inner, name)
            if not place.is_symlink():
                _flush(place)
        _flush(Path(inner))


def _raise(error: OSError) -> None:
    raise error


def _flush(place: Path, mode: int | None = None) -> None:
    """Flush a file or a folder to the disk, with its permissions."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        if mode is not None:
            place.chmod(mode)
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH or not place.is_dir():
            raise
    finally:
        os.close(descriptor)


def _flush_moves(folder: Path) -> None:
    """Flush the names in a folder to the disk; what was moved there is complete in any case."""
    with suppress(OSError):
        _flush(folder)


def digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

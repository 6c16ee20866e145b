"""A whole new file or the old one, never a piece of either."""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modswap.core.errors import CheckpointError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replacing(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a temporary file beside `out`; put it in the place of `out` if the block succeeds.

    What was written is flushed to the disk first. If the block raises, whatever it was, the
    temporary file is removed and `out` is as it was. A symbolic link is written through.

    Args:
        out: The file to be written.
        force: Whether it may exist.

    Raises:
        CheckpointError: If it cannot be written.
    """
    target = out.resolve()
    if target.exists() and not force:
        raise exists(out)
    # of its own length, so that a long name beside it stays possible
    temporary = target.with_name(f".modswap-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(_mode(target))
        if target.exists() and not force:
            raise exists(out)  # it appeared while this one was being written
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise refused(out, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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


def _flush_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system lets a folder be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def digest(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

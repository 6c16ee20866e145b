"""Write reports, recipes and other texts as a whole; a full disk leaves the old file as it was."""

import errno
import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

from modswap.core.errors import CheckpointError
from modswap.io.raw.atomic import refused, replacing
from modswap.io.recognise.look import kind_of, unreadable

_HEAD_BYTES = 8192
_JUDGED_BYTES = 64 << 10  # of a text, at either end
# errors of a folder in which nothing may be made, and of a file that is mounted by itself
_FOLDER_REFUSES = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
_OWN_DESCRIPTOR = re.compile(r"/proc/(?:self|thread-self|(\d+))/fd/(\d+)")
_MAX_LINKS = 40


def write_text(file: Path, text: str, *, force: bool = True) -> None:
    """Write a text file as a whole.

    Pipes, terminals and open descriptors (`/dev/stdout`, `/dev/fd/3`) are written straight.

    Raises:
        CheckpointError: If it cannot be written, if it exists and `force` is false, or if it holds
            something that is no text, such as a checkpoint. An existing file is then as it was.
    """
    data = _encoded(text)
    try:
        descriptor = _descriptor(file)
        if descriptor is not None or _is_special(file):
            _write_straight(file, descriptor, data)
            return
        if force:
            _refuse_binary(file)
    except (OSError, ValueError) as error:
        raise _unwritable(file, error) from error
    try:
        with replacing(file, force=force) as temporary:
            temporary.write_bytes(data)
    except CheckpointError as error:
        if not (force and _writable_in_place(file, error)):
            raise
        _write_in_place(file, data)


def _writable_in_place(file: Path, error: CheckpointError) -> bool:
    """Return whether only its folder, or that it is mounted, keeps a file from being replaced."""
    number = getattr(error.__cause__, "errno", None)
    return number in _FOLDER_REFUSES and file.is_file() and os.access(file, os.W_OK)


def _write_in_place(file: Path, data: bytes) -> None:
    """Overwrite a file after the room for the text is reserved."""
    try:
        with file.open("r+b", buffering=0) as stream:
            before = os.fstat(stream.fileno()).st_size
            try:
                if len(data) > before and sys.platform != "darwin":
                    os.posix_fallocate(stream.fileno(), before, len(data) - before)
            except OSError:
                stream.truncate(before)
                raise
            _put(stream.fileno(), data)
            stream.truncate(len(data))
    except OSError as error:
        raise _unwritable(file, error) from error


def append_text(file: Path, text: str) -> None:
    """Append a text to a file, all of it or nothing.

    Raises:
        CheckpointError: If it cannot be written, or the file holds something that is no text.
    """
    try:
        _refuse_binary(file)
        # a pipe without a reader is an error, where opening it would wait for ever
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        stream = os.open(file, flags, 0o666)
        try:
            _append(stream, _encoded(text))
        finally:
            os.close(stream)
    except (OSError, ValueError) as error:
        raise _unwritable(file, error) from error


def _append(stream: int, data: bytes) -> None:
    before = os.fstat(stream)
    try:
        _put(stream, data)
    except OSError:
        if stat.S_ISREG(before.st_mode):
            os.ftruncate(stream, before.st_size)
        raise


def _put(stream: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(stream, view) :]


def _encoded(text: str) -> bytes:
    """Return a text in UTF-8; names of a file may hold what UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace")


def _unwritable(file: Path, error: OSError | ValueError) -> CheckpointError:
    if isinstance(error, OSError):
        return refused(file, error)
    return CheckpointError(f"it cannot be written: {error}", str(file), "name another file")


def _descriptor(file: Path) -> int | None:
    """Return the open descriptor of this process that a path names, or None."""
    place = file
    for _ in range(_MAX_LINKS):
        place = Path(os.path.realpath(place.parent), place.name)
        found = _OWN_DESCRIPTOR.fullmatch(str(place))
        if found:
            own = found[1] is None or int(found[1]) == os.getpid()
            return int(found[2]) if own else None
        if not place.is_symlink():
            return None
        place = place.parent / place.readlink()
    return None


def _is_special(file: Path) -> bool:
    """Return whether it is a pipe or a device that takes a text; refuse a folder and a disk."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        fix = "name a file"
        raise CheckpointError(f"it cannot be written: it is {kind_of(mode)}", str(file), fix)
    return not stat.S_ISREG(mode)


def _write_straight(file: Path, descriptor: int | None, data: bytes) -> None:
    if descriptor is None:
        with file.open("wb", buffering=0) as stream:
            _put(stream.fileno(), data)
        return
    # through the descriptor itself: opened by its name, a file behind it would be emptied
    sys.stdout.flush()
    sys.stderr.flush()
    _put(descriptor, data)


def existing_text(file: Path) -> str | None:
    """Return the beginning and the end of the text in a file; None where none would be lost.

    That is where there is no file, and for pipes, devices and open descriptors.

    Raises:
        CheckpointError: If it cannot be read, or holds something that is no text.
    """
    try:
        if _descriptor(file) is not None or not stat.S_ISREG(file.stat().st_mode):
            return None
        _refuse_binary(file)
        with file.open("rb") as stream:
            data = stream.read(_JUDGED_BYTES)
            if rest := file.stat().st_size - len(data):
                stream.seek(-min(rest, _JUDGED_BYTES), os.SEEK_END)
                data += b"\n" + stream.read(_JUDGED_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from None
    return data.decode("utf-8", "replace")


def _refuse_binary(file: Path) -> None:
    """Refuse an existing file with a zero byte at its beginning, as every checkpoint has one."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(file.stat().st_mode):
            return
        with suppress(PermissionError), file.open("rb") as stream:
            if b"\0" in stream.read(_HEAD_BYTES):
                what = "it is no text file, and may be a checkpoint"
                raise CheckpointError(what, str(file), "name another file, or remove it first")

"""Read the small files beside weights: regular files of a bounded size.

Nothing here waits: a pipe or a device is refused before it is opened. No link leaves the folder,
but for those of the hub's cache.
"""

import os
from pathlib import Path
from typing import Any, BinaryIO

from modswap.core.errors import CheckpointError
from modswap.io.recognise.json_text import parse_json
from modswap.io.recognise.links import place_of
from modswap.io.recognise.look import kind_of, unreadable

MAX_CONFIG_BYTES = 4 << 20
MAX_INDEX_BYTES = 64 << 20
MAX_RECORDS_BYTES = 64 << 20  # recipe and receipt, with a digest for each tensor
MAX_LOCK_BYTES = 16 << 20
# a link that was put there after the judgement is not followed, and nothing waits for a writer
_FLAGS = sum(
    getattr(os, name, 0)
    for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)


def read_json(file: Path, most: int, *, folder: Path | None = None) -> Any:
    """Return the value of a small JSON file; see `read_small` and `parse_json`.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it cannot be read, or no program would write it so.
    """
    return parse_json(read_small(file, most, folder=folder), str(file))


def read_small(file: Path, most: int, *, folder: Path | None = None) -> bytes:
    """Return the bytes of a small file.

    Args:
        file: A regular file, or a link to it.
        most: Bytes that it may have.
        folder: The folder that its links must not leave; None for a file that the user named.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is no regular file, too large, outside the folder, or unreadable.
    """
    try:
        with opened(file, folder) as stream:
            nbytes = os.fstat(stream.fileno()).st_size
            data = stream.read(most + 1) if nbytes <= most else b""
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a zero byte in the name raises a ValueError
        raise unreadable(file, error) from None
    nbytes = max(nbytes, len(data))
    if nbytes > most:
        what = f"it is too large: it has {nbytes:,} bytes, expected at most {most:,}"
        raise CheckpointError(what, str(file), "check that it is what its name says")
    return data


def opened(file: Path, folder: Path | None = None) -> BinaryIO:
    """Return an open regular file; see `read_small`.

    Raises:
        OSError: If it cannot be opened.
        CheckpointError: If it is no regular file, or outside the folder.
    """
    place = Path(os.path.realpath(file)) if folder is None else place_of(file, folder)
    _refuse_odd(file, place.stat().st_mode)  # a device may act when it is opened
    return os.fdopen(os.open(place, os.O_RDONLY | _FLAGS), "rb")


def _refuse_odd(file: Path, mode: int) -> None:
    if kind := kind_of(mode):
        what = f"it is {kind}, expected a regular file"
        raise CheckpointError(what, str(file), "remove it, or put the file itself there")

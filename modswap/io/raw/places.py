"""Judge a path that will be written against the paths that are read, by device and inode.

Names do not count: links, hard links, relative and mounted paths of one file are one file.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from modswap.core.asked.used_paths import OUT, UsedPath
from modswap.core.errors import CheckpointError
from modswap.io.raw.litter import has_temporary_name

MAX_ENTRIES = 100_000
MAX_WRITTEN_FOLDERS = 1_000
# device and inode of a file; the names below them where it does not exist yet
Identity = tuple[int | str, ...]


def refuse_overlap(written: UsedPath, used: Iterable[UsedPath]) -> None:
    """Refuse a path to write that is one of others, is inside of one, or has one inside of it.

    A path that a link in a folder points to counts as a part of that folder.

    Raises:
        CheckpointError: At the first of them.
    """
    chain = _chain(written.file)
    for one in used:
        _refuse_temporary(written, one)
        relation = _relation(chain, one) or _mounted_relation(written.file, one)
        if relation:
            own = "" if written.name == OUT else f"{written.name} cannot be there: "
            kind = "file" if chain[0] == identity(one.file) else "place"
            never = "" if one.name == OUT else f": {one.name} is never overwritten"
            fix = f"name another {kind}{never}"
            raise CheckpointError(f"{own}{relation}", str(written.file), fix)


def _refuse_temporary(written: UsedPath, one: UsedPath) -> None:
    """Refuse a used path that a write beside it would take for the litter of a killed process."""
    beside = [identity(place) for place in _upwards(written.file)[1:2]]
    for place in _upwards(one.file):
        if has_temporary_name(place) and identity(place.parent) in beside:
            what = f"{one.name} has the name of a temporary file, which this write would remove"
            raise CheckpointError(what, str(place), "give it another name")


def _relation(chain: list[Identity], one: UsedPath) -> str:
    """Return how a written path and another overlap, in words; an empty text if they do not."""
    if chain[0] == identity(one.file):
        return f"it is {one.name} itself"
    if chain[0] in _chain(one.file):
        return f"{one.name} is inside it"
    return _folder_relation(chain, one) if one.file.is_dir() else ""


def _folder_relation(chain: list[Identity], one: UsedPath) -> str:
    """Return how a written path overlaps with what is in a folder, in words."""
    if identity(one.file) in chain:
        return f"it is inside {one.name}"
    for place in entries(one.file):
        if not place.is_symlink():
            if identity(place) in chain:
                return f"it is inside {one.name}"
        elif identity(place) == chain[0] or chain[0] in _chain(place):
            return f"{one.name} has a link to it"
    return ""


def _mounted_relation(written: Path, one: UsedPath) -> str:
    """Return that a folder inside a written one is mounted around another path, or nothing."""
    if not written.is_dir():
        return ""
    chain = set(_chain(one.file))
    # a folder with more in it is no checkpoint, and is refused as that
    below = islice(os.walk(written), MAX_WRITTEN_FOLDERS)
    inside = any(identity(Path(folder)) in chain for folder, _, _ in below)
    return f"{one.name} is inside it" if inside else ""


def identity(file: Path) -> Identity:
    """Return the device and the inode of a path, links followed.

    For a path that does not exist: those of the nearest folder above it, and the names below that.
    """
    missing: list[str] = []
    for place in (file, *_upwards(file)):
        with suppress(OSError, ValueError):
            found = place.stat()
            return (found.st_dev, found.st_ino, *reversed(missing))
        missing += [place.name] if place is not file else []
    return (str(file),)


def _upwards(file: Path) -> list[Path]:
    """Return the path without its links, and every folder above it."""
    try:
        place = Path(os.path.realpath(file))
    except (OSError, ValueError):  # a zero byte in it
        return []
    return [place, *place.parents]


def _chain(file: Path) -> list[Identity]:
    """Return the identities of a path and of every folder above it, the path first."""
    return [identity(place) for place in _upwards(file)] or [identity(file)]


def entries(folder: Path) -> Iterator[Path]:
    """Yield everything in a folder and its subfolders; linked folders are not entered.

    Raises:
        CheckpointError: If that is more than a checkpoint has.
    """
    count = 0
    for above, folders, files in os.walk(folder):
        count += len(folders) + len(files)
        if count > MAX_ENTRIES:
            what = f"it holds more than {MAX_ENTRIES:,} files, and is no checkpoint"
            raise CheckpointError(what, str(folder), "name a checkpoint")
        yield from (Path(above, name) for name in (*folders, *files))

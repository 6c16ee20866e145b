"""List the files of a folder, and read modswap's own records in it."""

import json
import os
import posixpath
import stat
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from modswap.core.errors import CheckpointError
from modswap.io.recognise.json_text import MalformedError
from modswap.io.recognise.links import home_of, hop_of, place_of
from modswap.io.recognise.look import kind_of, unreadable
from modswap.io.recognise.small_files import MAX_RECORDS_BYTES, read_json

RECORDS = "modswap.json"
_MIN_SPARSE_BYTES = 1 << 30
_MAX_GROWTH = 64  # of a file with holes, whose copy has none
MAX_DEPTH = 100  # folders inside one another


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file or a link in a folder or its subfolders.

    Args:
        name: Its path relative to the folder, with slashes.
        place: The regular file to be copied: of a link into the hub's cache, the file there.
        target: Of a link within the folder, the place it leads to, relative to the link; else
            empty.
    """

    name: str
    place: Path
    target: str = ""

    @property
    def home(self) -> str:
        """Return the path that a link within the folder leads to, relative to the folder."""
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.name), self.target))


def entries(folder: Path) -> tuple[FolderEntry, ...]:
    """Return all files and links of a folder and its subfolders, sorted by their paths.

    Raises:
        CheckpointError: If a link leaves the folder, or if it holds a pipe, a socket or a device,
            cannot be read, is nested too deep, or has a huge file that is a hole.
    """
    found: list[FolderEntry] = []
    pending = [folder]
    while pending:
        inner = pending.pop()
        if len(inner.parts) - len(folder.parts) > MAX_DEPTH:
            what = f"its folders are nested more than {MAX_DEPTH} deep"
            raise CheckpointError(what, str(folder), "name the folder of the weights themselves")
        try:
            modes = [(place, place.lstat().st_mode) for place in inner.iterdir()]
        except OSError as error:
            raise unreadable(inner, error) from None
        pending += [place for place, mode in modes if stat.S_ISDIR(mode)]
        found += [_entry(place, m, folder) for place, m in modes if not stat.S_ISDIR(m)]
    return tuple(sorted(found, key=lambda entry: Path(entry.name)))


def _entry(place: Path, mode: int, folder: Path) -> FolderEntry:
    name = place.relative_to(folder).as_posix()
    if not stat.S_ISLNK(mode):
        if kind := kind_of(mode):
            what = f"it holds {kind}, {name!r:.200}"
            raise CheckpointError(what, str(folder), "remove it: files and links alone are copied")
        _refuse_hole(place, name, folder)
        return FolderEntry(name, place)
    real = place_of(place, folder)
    if not real.is_relative_to(os.path.realpath(folder)):
        return FolderEntry(name, real)
    return FolderEntry(name, real, hop_of(place, folder))


def _refuse_hole(place: Path, name: str, folder: Path) -> None:
    """Refuse a huge file that takes next to nothing on the disk: its copy would take all of it."""
    nbytes = place.lstat().st_size
    if nbytes < _MIN_SPARSE_BYTES or not hasattr(os, "SEEK_DATA"):
        return
    held, position = 0, 0
    with place.open("rb") as stream, suppress(OSError):  # an error: no data follow
        while held * _MAX_GROWTH < nbytes:
            start = os.lseek(stream.fileno(), position, os.SEEK_DATA)
            position = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            held += position - start
    if held * _MAX_GROWTH < nbytes:
        what = f"its file {name!r:.200} of {nbytes:,} bytes is a hole, with {held:,} bytes in it"
        raise CheckpointError(what, str(folder), "remove it, or save it again")


def homes_of(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Return names in a folder by the files that they lead to, where some are links.

    Raises:
        CheckpointError: If two lead to one file, or one to the file of modswap's own records.
    """
    homes = {RECORDS: RECORDS}
    for name in names:
        home = home_of(name, folder)
        if home in homes:
            what = f"its files {homes[home]!r:.100} and {name!r:.100} are one file, {home!r:.100}"
            raise CheckpointError(what, str(folder), "put the files themselves there")
        homes[home] = name
    del homes[RECORDS]
    return homes


def put_links(out: Path, held: Iterable[FolderEntry], left_out: Set[str] = frozenset()) -> None:
    """Make the links of a folder in its copy, after all of the copy's files.

    Links to files that were `left_out` of the copy are left out as well.
    """
    for entry in held:
        if entry.target and entry.home not in left_out:
            place = out / entry.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(entry.target)


def size_of(place: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; links have none."""
    if not place.is_dir():
        return place.stat().st_size
    found = (file.lstat() for file in place.rglob("*"))
    return sum(status.st_size for status in found if stat.S_ISREG(status.st_mode))


def own_records(folder: Path) -> dict[str, str] | None:
    """Return the recipe and the receipt in a folder; None if it has no file of them.

    Raises:
        CheckpointError: If the file is a pipe, a device or a link that leaves the folder, cannot be
            read, or is such that no program writes it.
    """
    try:
        return texts(read_json(folder / RECORDS, MAX_RECORDS_BYTES, folder=folder))
    except (FileNotFoundError, MalformedError):
        return None


def texts(found: object) -> dict[str, str]:
    """Return the entries of a JSON object that are texts and not empty."""
    held = found if isinstance(found, dict) else {}
    return {name: text for name, text in held.items() if isinstance(text, str) and text}


def as_json(value: object) -> bytes:
    """Return a value as the text of a JSON file."""
    text = f"{json.dumps(value, indent=2, ensure_ascii=False)}\n"
    return text.encode("utf-8", "backslashreplace")  # as JSON writes half a character


def put_texts(folder: Path, files: Mapping[str, bytes], digests: Mapping[str, str]) -> str:
    """Write the last, small files of a folder; return one SHA-256 for all of its files.

    `digests` holds the SHA-256 of every other file, by its name.
    """
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = {**digests, **{name: sha256(data).hexdigest() for name, data in files.items()}}
    lines = "".join(f"{found[name]}  {name}\n" for name in sorted(found))
    return sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()

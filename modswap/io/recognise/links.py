"""Judge the links in a folder: a link that leaves the folder is refused, but for the hub's cache.

The cache of the Hugging Face hub keeps every file in `models--NAME/blobs`, and fills the folders
`models--NAME/snapshots/REVISION` with links to them. Such a link counts as the file itself.
"""

import errno
import os
import stat
from pathlib import Path

from modswap.core.errors import CheckpointError

_FIX = "copy the file itself into the folder, or remove the link"


def place_of(file: Path, folder: Path) -> Path:
    """Return the place of a file of a folder, with all links followed.

    Raises:
        CheckpointError: If a link on the way leaves the folder, or leads in a circle, or if no file
            can have this name.
    """
    try:
        root, real = Path(os.path.realpath(folder)), Path(os.path.realpath(file))
    except ValueError as error:  # a zero byte, or half a character
        what = f"no file can have the name {file.name!r:.200}: {error}"
        raise CheckpointError(what, str(folder), "save or download it again") from None
    if real.is_relative_to(root):
        _refuse_circle(file, real, folder)
        return real
    if real.parent != blobs_of(root) or not is_regular(real):
        raise leaves(file, folder, str(real))
    return real


def home_of(name: str, folder: Path) -> str:
    """Return the name of the file in a folder that a name leads to, relative to the folder.

    It is the name itself where it is no link, or a link into the cache of the hub.

    Raises:
        CheckpointError: If a link on the way leaves the folder, or leads in a circle.
    """
    root = Path(os.path.realpath(folder))
    place = place_of(folder / name, folder)
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else name


def hop_of(link: Path, folder: Path) -> str:
    """Return the next place that a link in a folder leads to, relative to the folder of the link.

    Raises:
        CheckpointError: If it leaves the folder.
    """
    root, parent = os.path.realpath(folder), os.path.realpath(link.parent)
    text = os.path.join(parent, os.readlink(link)).rstrip("/")  # noqa: PTH115, PTH118 - a Path drops dots
    head, tail = text.rpartition("/")[::2]
    whole = tail in {"", ".", ".."}
    hop = Path(os.path.realpath(text)) if whole else Path(os.path.realpath(head), tail)
    if not hop.is_relative_to(root):
        raise leaves(link, folder, str(hop))
    return os.path.relpath(hop, parent)


def leaves(file: Path, folder: Path, target: str) -> CheckpointError:
    """Return the error for a link in a folder that leads to a place outside the folder."""
    name = os.path.relpath(file, folder)
    what = f"its file {name!r:.200} is a link that leaves the folder, to {target!r:.200}"
    return CheckpointError(what, str(folder), _FIX)


def blobs_of(root: Path) -> Path | None:
    """Return the folder of the blobs behind a snapshot of the hub's cache, or behind a part of it.

    `root` has no links in it. None if it is no such snapshot.
    """
    for revision in (root, *root.parents):
        cached = revision.parent.parent
        if revision.parent.name == "snapshots" and cached.name.startswith("models--"):
            return cached / "blobs"
    return None


def is_regular(place: Path) -> bool:
    """Return whether a regular file is there; links are not followed."""
    try:
        return stat.S_ISREG(place.lstat().st_mode)
    except (OSError, ValueError):
        return False


def _refuse_circle(file: Path, real: Path, folder: Path) -> None:
    try:
        real.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            name = os.path.relpath(file, folder)
            what = f"its file {name!r:.200} is a link that leads in a circle"
            raise CheckpointError(what, str(folder), "remove the link") from None

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
        CheckpointError: If a link on the way leaves the folder, or leads in a circle.
    """
    root, real = Path(os.path.realpath(folder)), Path(os.path.realpath(file))
    if real.is_relative_to(root):
        _refuse_circle(file, real, folder)
        return real
    if real.parent != blobs_of(root) or not is_regular(real):
        raise leaves(file, folder, str(real))
    return real


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
    except ValueError:
        return  # a zero byte in the name: whoever opens the file says so

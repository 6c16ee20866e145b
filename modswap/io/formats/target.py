"""Refuse a place that cannot be written to, before any work is done."""

from pathlib import Path

from modswap.core.errors import CheckpointError
from modswap.io.formats.choice import by_ending, has_known_ending
from modswap.io.raw.atomic import exists
from modswap.io.recognise.look import kind_of

NO_FILE = Path()  # the source of a model that came from no file


def refuse_target(source: Path, out: Path, *, force: bool) -> None:
    """Refuse a target that is the input, that cannot be a file, or that exists without `force`.

    Raises:
        CheckpointError: If it cannot be written there.
    """
    present = _exists(out)
    folder = source != NO_FILE and source.is_dir()
    if source != NO_FILE:
        _refuse_input(source, out, present=present)
    if present:
        _refuse_kind(source, out, folder=folder)
    if not out.resolve().parent.is_dir():
        what = f"there is no folder {str(out.parent)!r}"
        raise CheckpointError(what, str(out), "make it first")
    if present and not force:
        raise exists(out)
    if not folder:
        by_ending(out)


def _exists(out: Path) -> bool:
    """Return whether a file or folder of this name exists; refuse a link to itself and the like."""
    try:
        out.resolve()
        out.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        what = f"it cannot be written: {reason}"
        raise CheckpointError(what, str(out), "name another file") from None
    return True


def _refuse_input(source: Path, out: Path, *, present: bool) -> None:
    """Refuse the input itself, and a place inside it."""
    if present and source.exists() and out.samefile(source):
        fix = "name another file: the input is never overwritten"
        raise CheckpointError("it is the input itself", str(out), fix)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise CheckpointError("it is inside the input", str(out), "name another folder")


def _refuse_kind(source: Path, out: Path, *, folder: bool) -> None:
    """Refuse a folder where a file is to be written, and any device or pipe."""
    kind = kind_of(out.stat().st_mode)
    if kind and not (folder and out.is_dir() and not has_known_ending(out)):
        inside = f", {out / source.name}" if out.is_dir() and source != NO_FILE else ""
        raise CheckpointError(f"it is {kind}", str(out), f"name a file{inside}")

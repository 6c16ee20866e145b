"""Refuse a place that cannot be written to, before any work is done."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from re import IGNORECASE
from re import compile as compiled

from modswap.core.asked.own_texts import SUMMARY, may_replace
from modswap.core.asked.used_paths import INPUT, OUT, UsedPath
from modswap.core.errors import CheckpointError
from modswap.io import formats
from modswap.io.formats.choice import has_known_ending, refuse_ending
from modswap.io.raw.atomic import exists
from modswap.io.raw.folder_files import own_records
from modswap.io.raw.folder_swap import put_back
from modswap.io.raw.places import refuse_overlap
from modswap.io.raw.texts import existing_text
from modswap.io.recognise.look import kind_of, look_at

# files that programs of Hugging Face and torch write into the folder of a checkpoint
_CHECKPOINT_FILES = compiled(
    r"(.*/)?([^/]*\.(safetensors|bin|distcp|json|model|msgpack|h5|jinja)|\.metadata|vocab\.txt|"
    r"merges\.txt|README\.md|LICENSE[^/]*|\.gitattributes)|\.cache/huggingface/.*",
    IGNORECASE,
)
NO_FILE = Path()  # the source of a model that came from no file


def refuse_target(source: Path, out: Path, *, force: bool, reads: Iterable[UsedPath] = ()) -> None:
    """Refuse a target that is read, that cannot be a file, or that exists without `force`.

    `source` is the input; `reads` are further paths that are never overwritten.

    Raises:
        CheckpointError: If it cannot be written there.
    """
    with suppress(OSError, RuntimeError, ValueError):  # `_exists` says why
        put_back(out.resolve())  # a folder that lost its place when another run was killed
    present = _exists(out)
    folder = source != NO_FILE and source.is_dir()
    if present:
        _refuse_kind(source, out, folder=folder)
    used = [UsedPath(INPUT, source)] if source != NO_FILE else []
    refuse_overlap(UsedPath(OUT, out), (*used, *reads))
    if not out.resolve().parent.is_dir():
        what = f"there is no folder {str(out.parent)!r}"
        raise CheckpointError(what, str(out), "make it first")
    if present and not force:
        raise exists(out)
    if present and out.is_dir():
        _refuse_other_files(out, source)
    if not folder:
        refuse_ending(source, out)


def refuse_foreign(written: UsedPath) -> None:
    """Refuse to write a text over a file that holds no text of its kind.

    Programs share the summary of a job: to it a text may be added, but not in the folder of a
    checkpoint, whose files are no summaries.

    Raises:
        CheckpointError: If there is such a file.
    """
    text = existing_text(written.file) if written.kind else None
    if not text:
        return
    if not may_replace(written.kind, text):
        what = f"{written.name} cannot be there: it exists, and is no {written.kind} of modswap"
    elif written.kind == SUMMARY and _is_checkpoint(written.file.resolve().parent):
        what = f"{written.name} cannot be there: the file is in the folder of a checkpoint"
    else:
        return
    raise CheckpointError(what, str(written.file), "name another file, or remove it first")


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


def _refuse_kind(source: Path, out: Path, *, folder: bool) -> None:
    """Refuse a folder where a file is to be written, and any device or pipe."""
    kind = kind_of(out.stat().st_mode)
    if kind and not (folder and out.is_dir() and not has_known_ending(out)):
        inside = f", {out / source.name}" if out.is_dir() and source != NO_FILE else ""
        raise CheckpointError(f"it is {kind}", str(out), f"name a file{inside}")


def _refuse_other_files(out: Path, source: Path) -> None:
    """Refuse to replace a folder that holds more than a checkpoint, since all in it would go.

    A folder may be replaced that modswap wrote, that is empty, or that is recognised as a
    checkpoint and holds only files as such folders do, or as the input has them.
    """
    if own_records(out):
        return
    files = (Path(above, name) for above, _, names in os.walk(out) for name in names)
    names = (file.relative_to(out) for file in files)
    if _is_checkpoint(out):
        names = (name for name in names if not _belongs(name, source))
    other = next(names, None)
    if other is not None:
        what = f"it holds more than a checkpoint: {str(other)!r:.200}"
        fix = "name another folder: --force removes a whole folder, and only that of a checkpoint"
        raise CheckpointError(what, str(out), fix)


def _belongs(name: Path, source: Path) -> bool:
    """Return whether a file belongs to a checkpoint: by its name, or since the input has it."""
    return bool(_CHECKPOINT_FILES.fullmatch(name.as_posix())) or (source / name).is_file()


def _is_checkpoint(folder: Path) -> bool:
    look = look_at(folder)
    return any(row.folder and row.recognise(look) for row in formats.FORMATS)

"""Edit files of the user's own in place: all or none, and only while they are as they were read."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from modswap.core.errors import CheckpointError
from modswap.io.raw.atomic import replacing
from modswap.io.recognise.look import unreadable

COPY = ".orig"  # behind the name of a file, for its old text


class InPlaceEdit(NamedTuple):
    """A file with its bytes as they were read, and as they are to be."""

    file: Path
    before: bytes
    after: bytes


def edit_in_place(
    edits: Sequence[InPlaceEdit], is_kept: Callable[[InPlaceEdit], bool]
) -> list[Path | None]:
    """Write the new bytes of files; return where the old bytes of each are kept beside it.

    No copy is made of a file whose old bytes are kept elsewhere, as `is_kept` says. If one file
    cannot be written, the others are as they were.

    Raises:
        CheckpointError: If a file has changed since it was read, or cannot be written.
    """
    for edit in edits:
        refuse_changed(edit)
    copies: list[Path | None] = []
    written: list[InPlaceEdit] = []
    try:
        for edit in edits:
            copies.append(None if is_kept(edit) else _copied(edit))
            _write(edit)
            written.append(edit)
    except BaseException:
        for edit in written:
            _write(InPlaceEdit(edit.file, edit.after, edit.before))
        for copy in copies:
            with suppress(OSError):
                (copy or Path()).unlink()
        raise
    return copies


def refuse_changed(edit: InPlaceEdit) -> None:
    """Refuse a file that is not as it was read.

    Raises:
        CheckpointError: If it has changed, or cannot be read.
    """
    try:
        now = edit.file.read_bytes()
    except OSError as error:
        raise unreadable(edit.file, error) from None
    if now != edit.before:
        what = "it changed since it was read, and is not written"
        raise CheckpointError(what, str(edit.file), "run the command again")


def _write(edit: InPlaceEdit) -> None:
    with replacing(edit.file, force=True, ready=lambda: refuse_changed(edit)) as temporary:
        temporary.write_bytes(edit.after)


def _copied(edit: InPlaceEdit) -> Path:
    """Return a new file beside a file, with its old bytes."""
    number, copy = 2, edit.file.with_name(f"{edit.file.name}{COPY}")
    while copy.exists() or copy.is_symlink():
        copy = edit.file.with_name(f"{edit.file.name}{COPY}{number}")
        number += 1
    with replacing(copy, force=False) as temporary:
        temporary.write_bytes(edit.before)
    return copy

"""Write changed source into the user's files."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from modswap.core.asked.used_paths import OUT, UsedPath, paths_read
from modswap.core.errors import CheckpointError, UsageError
from modswap.core.kept.code_change import FileChange, WrittenFile
from modswap.core.kept.receipt import Receipt, record
from modswap.core.version import __version__
from modswap.io.formats.writing import write
from modswap.io.in_place import InPlaceEdit, edit_in_place, refuse_changed
from modswap.io.raw.places import refuse_overlap
from modswap.io.rewriting import Records
from modswap.ops.code.building.source import is_ours
from modswap.ops.code.building.swapped import Swapped
from modswap.ops.load.checksums import compared

GIT_SECONDS = 20


def write_changes(changes: Sequence[FileChange]) -> tuple[WrittenFile, ...]:
    """Write the new text of each file; the old one is kept beside it unless git has it.

    Raises:
        CheckpointError: If a file has changed since it was read, or cannot be written; all files
            are then as they were.
    """
    for change in changes:
        if is_ours(change.file):
            what = "it is a file of modswap itself, and is not written"
            raise CheckpointError(what, change.file, "copy the network into a file of your own")
    edits = [InPlaceEdit(Path(one.file), one.before, one.after) for one in changes]
    copies = edit_in_place(edits, _in_git)
    return tuple(
        WrittenFile(str(edit.file), "" if copy is None else str(copy))
        for edit, copy in zip(edits, copies, strict=True)
    )


def refuse_changes(changes: Sequence[FileChange]) -> None:
    """Refuse source files that are not as they were read.

    Raises:
        CheckpointError: At the first of them.
    """
    for one in changes:
        refuse_changed(InPlaceEdit(Path(one.file), one.before, one.after))


def _in_git(edit: InPlaceEdit) -> bool:
    """Return whether the last commit of git has a file as it was read."""
    command = ["git", "cat-file", "blob", f"HEAD:./{edit.file.name}"]
    try:
        done = subprocess.run(  # noqa: S603 - git reads a blob of the user's own repository
            command,
            cwd=edit.file.resolve().parent,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout == edit.before


def write_renamed(made: Swapped, out: Path, *, force: bool) -> str:
    """Write a model whose modules have other names, in the container of its file.

    Raises:
        CheckpointError: If it cannot be written, or a tensor of the file is damaged: it would get
            a checksum of its own.
        UsageError: If the file holds more than one model.
    """
    container = made.loaded.container
    if len(container.slots) > 1:
        what = "it holds more than one copy of the model"
        raise UsageError(what, str(made.subject.file), "save one of them to a file of its own")
    refuse_overlap(UsedPath(OUT, out), paths_read(made.subject))
    compared(made.subject)
    sites = tuple(record(new.paths, new.blueprint) for new in made.wanted)
    receipt = Receipt(modswap=__version__, torch=torch.__version__, sites=sites)
    value = made.model if container.slots[0].kind == "module" else made.model.state_dict()
    records = Records(container.recipe or "", receipt.text())
    return str(write(container, [value], out, records=records, force=force).file)


def write_configured(
    made: Swapped, config: Mapping[str, Any] | None, out: Path, *, force: bool
) -> None:
    """Write a model that holds the configuration with the swap, as Ultralytics trains it by.

    Raises:
        UsageError: If the library has no such configuration for this swap.
        CheckpointError: If it cannot be written.
    """
    if config is None or made.loaded.container.slots[0].kind != "module":
        what = "no configuration of the library holds this swap"
        raise UsageError(what, "-o", "leave -o out, and use the lines")
    vars(made.model)["yaml"] = dict(config)
    write_renamed(made, out, force=force)

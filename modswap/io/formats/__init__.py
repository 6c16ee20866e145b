"""Checkpoint formats: one table, and reading and writing by it."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, is_tensor, nn

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError
from modswap.core.kept.outcome import Written
from modswap.io.formats.container import (
    NO_FILE,
    Container,
    Slot,
    named_tensors,
    refilled,
)
from modswap.io.formats.distributed.load import DISTRIBUTED
from modswap.io.formats.exported.load import EXPORTED
from modswap.io.formats.folder.load import FOLDER
from modswap.io.formats.format import Format, Swaps
from modswap.io.formats.safetensors.load import SAFETENSORS
from modswap.io.formats.torch.load import TORCH, TORCH_LEGACY
from modswap.io.pickled.data import UnreadableError
from modswap.io.raw.atomic import digest, exists, replacing
from modswap.io.recognise.look import foreign, kind_of, look_at
from modswap.io.rewriting import Records, Rewriting

__all__ = [
    "ENDINGS",
    "FORMATS",
    "blank",
    "left_out",
    "read",
    "refuse_target",
    "rewrite",
    "rewriting",
    "tensors",
    "write",
]

FORMATS: tuple[Format, ...] = (
    TORCH, TORCH_LEGACY, SAFETENSORS, EXPORTED, DISTRIBUTED, FOLDER,
)  # fmt: skip
ENDINGS = {ending: row for row in FORMATS for ending in row.endings}


def read(file: Path, policy: Policy) -> Container:
    """Read a checkpoint, recognised by its content; nothing in it is executed.

    Args:
        file: The file.
        policy: What it may build.

    Raises:
        CheckpointError: If it cannot be read.
        UnsafeError: If it would have to build what is not allowed.
    """
    look = look_at(file)
    for row in FORMATS:
        if row.recognise(look):
            return row.load(look, policy)
    raise foreign(look)


def tensors(container: Container) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint by a dotted name, the optimizer's included.

    Where two keys give one name, as 0 and "0" do, the later one has a number behind it.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in named_tensors(container.payload):
        numbers = itertools.count(2)
        unique = name
        while unique in found:
            unique = f"{name}#{next(numbers)}"
        found[unique] = tensor
    return found


def refuse_target(source: Path, out: Path, *, force: bool) -> None:
    """Refuse a target before any work is done.

    Args:
        source: The input; `NO_FILE` for what came from none.
        out: Where to write.
        force: Whether it may exist.

    Raises:
        CheckpointError: If it is the input, exists, or cannot be a file.
    """
    there = _stands(out)
    given = source != NO_FILE
    folder = given and source.is_dir()
    if there and given and source.exists() and out.samefile(source):
        fix = "name another file: the input is never overwritten"
        raise CheckpointError("it is the input itself", str(out), fix)
    kind = kind_of(out.stat().st_mode) if there else ""
    if folder and out.resolve().is_relative_to(source.resolve()):
        raise CheckpointError("it is inside the input", str(out), "name another folder")
    if kind and not (folder and out.is_dir() and out.suffix.lower() not in ENDINGS):
        inside = f", {out / source.name}" if out.is_dir() and given else ""
        raise CheckpointError(f"it is {kind}", str(out), f"name a file{inside}")
    if not out.resolve().parent.is_dir():
        what = f"there is no folder {str(out.parent)!r}"
        raise CheckpointError(what, str(out), "make it first")
    if there and not force:
        raise exists(out)
    if out.suffix and not folder:
        _by_ending(out)


def _stands(out: Path) -> bool:
    """Return whether anything stands at a place.

    Raises:
        CheckpointError: If it is no place at all, such as a link to itself or a name too long.
    """
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


def _by_ending(out: Path) -> Format:
    row = ENDINGS.get(out.suffix.lower())
    if row is None:
        known = ", ".join(ENDINGS)
        what = f"no format has the ending {out.suffix!r}"
        raise CheckpointError(what, str(out), f"use one of {known}")
    return row


def row_of(container: Container) -> Format:
    """Return the row of the format that a checkpoint was read from."""
    return next(row for row in FORMATS if row.name == container.format)


def target_format(container: Container, out: Path) -> Format:
    """Return the format to write: the input's, unless the target's ending asks for another."""
    own = row_of(container)
    if own.folder and out.suffix.lower() not in ENDINGS:
        return own
    if out.suffix:
        return _by_ending(out)
    return SAFETENSORS if container.format == SAFETENSORS.name else TORCH


def write(
    container: Container,
    values: Sequence[Any],
    out: Path,
    *,
    records: Records,
    force: bool,
    accept: Callable[[Path], None] = lambda _: None,
) -> Written:
    """Write a checkpoint with new values in its slots and everything else as it was.

    Args:
        container: What was read.
        values: One per slot: the module, changed in place, or weights without their prefix.
        out: Where to write; its ending picks the format where it differs from the input's.
        records: The recipe and the receipt, to travel inside.
        force: Whether `out` may exist.
        accept: Looks at the file before it is put in its place, and raises what is wrong with it.

    Raises:
        CheckpointError: If it cannot be written; an existing file is as it was.
    """
    refuse_target(container.file, out, force=force)
    row = target_format(container, out)
    payload = refilled(container, values)
    if _weights_alone(container, row):
        payload = _weights(container.slots[0], values[0])
    with replacing(out, force=force) as temporary:
        try:
            row.save(payload, temporary, records, dict(container.metadata))
        except CheckpointError as error:
            raise CheckpointError(error.what, str(out), error.fix) from error
        accept(temporary)
    return Written(out, out.stat().st_size, digest(out), row.name)


def rewriting(
    container: Container, swaps: Swaps, out: Path | None, policy: Policy
) -> Rewriting | None:
    """Prepare the same file with other modules in it, its own tensors copied and never loaded.

    Args:
        container: What was read.
        swaps: What goes in.
        out: Where it will be written; None for a dry run.
        policy: What the file may name.

    Returns:
        None if another format is to be written, or the file cannot be read as data.

    Raises:
        CheckpointError: If the file is damaged.
        UnsafeError: If it names what can run code.
    """
    row = row_of(container)
    target = target_format(container, out) if out is not None else row
    if target is not row and not (row is TORCH_LEGACY and target is TORCH):
        return None
    try:
        return row.rewrite(container, swaps, policy)
    except UnreadableError:
        return None


def rewrite(source: Path, out: Path, put: Callable[[Path], str], *, force: bool) -> Written:
    """Put a rewritten file or folder in its place.

    Args:
        source: What it was made from.
        out: Where to write.
        put: Writes it into an empty one, looks at what was written, and returns its SHA-256.
        force: Whether `out` may exist.

    Raises:
        CheckpointError: If it cannot be written, or the source is damaged; an existing file is as
            it was.
    """
    refuse_target(source, out, force=force)
    with replacing(out, force=force, folder=source.is_dir()) as temporary:
        sha256 = put(temporary)
    if source.is_dir():
        nbytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        look = look_at(out)
        name = next(row.name for row in FORMATS if row.recognise(look))
        return Written(out, nbytes, sha256, name)
    name = (_by_ending(out) if out.suffix else TORCH).name
    return Written(out, out.stat().st_size, sha256, name)


def left_out(container: Container, out: Path) -> tuple[str, ...]:
    """Return in words what a file will not hold because its format has no room for it."""
    row = target_format(container, out)
    if container.format == DISTRIBUTED.name and row is not DISTRIBUTED:
        return ("only the models' weights are written, not what else the folder holds",)
    if not _weights_alone(container, row):
        return ()
    primary = container.slots[0]
    notes = []
    if primary.kind == "module":
        hold = f"{row.name} hold" if row.weights_only else "it holds"
        notes.append(f"{hold} weights without code: the model's class loads them")
    if primary.keys:
        others = ", ".join(repr(key) for key in container.payload if key != primary.keys[0])
        place = ".".join(primary.keys)
        notes.append(f"only the weights of {place!r} are written; left out: {others or 'nothing'}")
    return tuple(notes)


def _weights_alone(container: Container, row: Format) -> bool:
    """Return whether nothing but the primary model's weights goes over to a format."""
    # what torch makes of a graph cannot be pickled
    return container.format != row.name and (row.weights_only or container.format == EXPORTED.name)


def _weights(slot: Slot, value: Any) -> dict[str, Any]:
    """Return the primary model's weights, for a container that has no room for more."""
    if not isinstance(value, nn.Module):
        return {f"{slot.prefix}{name}": tensor for name, tensor in value.items()}
    return {name: t for name, t in value.state_dict().items() if is_tensor(t)}


def blank(model: nn.Module, out: Path) -> tuple[Container, Any]:
    """Return a container for a model that came from no file, and the value of its slot.

    Args:
        model: The model.
        out: Where it will be written; its ending picks the format.

    Raises:
        CheckpointError: If no format has this ending.
    """
    row = _by_ending(out) if out.suffix else TORCH
    slot = Slot((), "module", model)
    if row.weights_only:
        slot = Slot((), "weights", _weights(slot, model))
    return Container(row.name, NO_FILE, slot.value, (slot,)), slot.value

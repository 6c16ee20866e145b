"""Write a checkpoint by the row of its format: its payload anew, or the file with new modules."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import is_tensor, nn

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError
from modswap.core.kept.outcome import Written
from modswap.io.formats.choice import by_ending, format_named, recognised, target_format
from modswap.io.formats.container import Container, Slot, refilled
from modswap.io.formats.format import Format, Swaps
from modswap.io.formats.target import NO_FILE, refuse_target
from modswap.io.pickled.data import UnreadableError
from modswap.io.raw.atomic import digest, replacing
from modswap.io.raw.folder_files import size_of
from modswap.io.raw.held import Held
from modswap.io.raw.memory import enough_memory
from modswap.io.recognise.look import look_at
from modswap.io.rewriting import Records, Rewriting


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
        container: The checkpoint as it was read.
        values: One per slot: the module, changed in place, or weights without their prefix.
        out: Where to write; its ending picks the format where it differs from the input's.
        records: The recipe and the receipt, to travel inside.
        force: Whether `out` may exist.
        accept: Examines the file before it is put in its place, and raises an error against it.

    Raises:
        CheckpointError: If it cannot be written; an existing file is as it was.
    """
    refuse_target(container.file, out, force=force)
    row = target_format(container.format, out)
    if row.save is None:
        made = f"a {row.name} checkpoint is only made from another"
        what = f"its files cannot be read as data, and {made}"
        raise CheckpointError(what, str(out), "name OUT.pt or OUT.safetensors")
    payload = refilled(container, values)
    if container.unbuilt and not row.weights_only:
        what = f"it holds {', '.join(container.unbuilt)}, which were not built"
        fix = f"add --allow {container.unbuilt[0]} and the like, or name OUT.safetensors"
        raise CheckpointError(what, str(container.file), fix)
    if _weights_alone(container, row):
        payload = _weights(container.slots[0], values[0])

    def ready() -> None:
        _refuse_change(container.held)
        refuse_target(container.file, out, force=force)

    with replacing(out, force=force, ready=ready) as temporary:
        try:
            row.save(payload, temporary, records, dict(container.metadata))
        except CheckpointError as error:
            raise CheckpointError(error.what, str(out), error.fix) from error
        accept(temporary)
    return Written(out, out.stat().st_size, digest(out), row.name)


def prepare_rewriting(
    container: Container, swaps: Swaps, out: Path | None, policy: Policy
) -> Rewriting | None:
    """Prepare the same file with other modules in it, its own tensors copied and never loaded.

    Returns:
        None if another format is to be written, or the file cannot be read as data.

    Raises:
        CheckpointError: If the file is damaged.
        UnsafeError: If it names what can run code.
    """
    row = format_named(container.format)
    target = target_format(row.name, out)
    if row.rewrite is None or target.name not in {row.name, row.writes_as}:
        return None
    try:
        with enough_memory(container.file):
            return row.rewrite(container, swaps, policy)
    except UnreadableError:
        return None


def prepare_copy(container: Container, swaps: Swaps, out: Path | None, policy: Policy) -> Rewriting:
    """Prepare the same file with other modules in it, of which nothing can be built.

    Raises:
        CheckpointError: If another format is to be written, or the file is damaged.
        UnsafeError: If it names what can run code.
    """
    done = prepare_rewriting(container, swaps, out, policy)
    if done is None:
        what = "it cannot be rewritten as data in another format"
        raise CheckpointError(what, str(container.file), "give OUT the ending that the file has")
    return done


def _refuse_change(held: Held | None) -> None:
    if held is not None:
        held.refuse_change()


def write_rewriting(
    source: Path, out: Path, put: Callable[[Path], str], *, force: bool, held: Held | None = None
) -> Written:
    """Put a rewritten file or folder in its place; an existing one stays as it was on an error.

    `put` writes into an empty file or folder, reads it again, and returns its SHA-256.

    Raises:
        CheckpointError: If it cannot be written, or the source is damaged, or `held` and changed.
    """
    refuse_target(source, out, force=force)

    def ready() -> None:
        _refuse_change(held)
        refuse_target(source, out, force=force)

    with replacing(out, force=force, folder=source.is_dir(), ready=ready) as temporary:
        sha256 = put(temporary)
    return Written(out, size_of(out), sha256, recognised(look_at(out)).name)


def left_out(container: Container, out: Path) -> tuple[str, ...]:
    """Return a note for each part of a checkpoint that the format of `out` has no room for."""
    row, own = target_format(container.format, out), format_named(container.format)
    if own.left_out and row is not own:
        return (own.left_out,)
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
    """Return whether a format takes over nothing but the primary model's weights."""
    own = format_named(container.format)
    # a module that torch made from a graph cannot be pickled
    return own is not row and (row.weights_only or own.traced)


def _weights(slot: Slot, value: Any) -> dict[str, Any]:
    """Return the primary model's weights, for a format that has no room for more."""
    if not isinstance(value, nn.Module):
        return {f"{slot.prefix}{name}": tensor for name, tensor in value.items()}
    return {name: t for name, t in value.state_dict().items() if is_tensor(t)}


def blank(model: nn.Module, out: Path) -> tuple[Container, Any]:
    """Return a container for a model that came from no file, and the value of its slot.

    Raises:
        CheckpointError: If no format has the ending of `out`.
    """
    row = by_ending(out)
    slot = Slot((), "module", model)
    if row.weights_only:
        slot = Slot((), "weights", _weights(slot, model))
    return Container(row.name, NO_FILE, slot.value, (slot,)), slot.value

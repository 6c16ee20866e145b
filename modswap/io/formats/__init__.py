"""Checkpoint formats: one table, and reading and writing by it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.errors import CheckpointError
from modswap.core.job import Policy
from modswap.core.outcome import Written
from modswap.io.atomic import digest, exists, replacing
from modswap.io.formats.container import Container, Slot, named_tensors, refilled
from modswap.io.formats.format import Format, Records
from modswap.io.formats.recognise import foreign, look_at
from modswap.io.formats.safetensors_file import SAFETENSORS
from modswap.io.formats.torch_file import TORCH, TORCH_LEGACY

__all__ = ["FORMATS", "blank", "read", "refuse_target", "tensors", "write"]

FORMATS: tuple[Format, ...] = (TORCH, TORCH_LEGACY, SAFETENSORS)
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


def tensors(container: Container) -> dict[str, torch.Tensor]:
    """Return every tensor of a checkpoint by a dotted name, the optimizer's included."""
    return dict(named_tensors(container.payload))


def refuse_target(source: Path, out: Path, *, force: bool) -> None:
    """Refuse a target before any work is done.

    Raises:
        CheckpointError: If it is the input, exists, or cannot be a file.
    """
    if out.exists() and source.exists() and out.samefile(source):
        fix = "name another file: the input is never overwritten"
        raise CheckpointError("it is the input itself", str(out), fix)
    if out.is_dir():
        raise CheckpointError("it is a folder", str(out), f"name a file, {out / source.name}")
    if not out.resolve().parent.is_dir():
        what = f"there is no folder {str(out.parent)!r}"
        raise CheckpointError(what, str(out), "make it first")
    if out.exists() and not force:
        raise exists(out)
    if out.suffix:
        _by_ending(out)


def _by_ending(out: Path) -> Format:
    row = ENDINGS.get(out.suffix.lower())
    if row is None:
        known = ", ".join(ENDINGS)
        what = f"no format has the ending {out.suffix!r}"
        raise CheckpointError(what, str(out), f"use one of {known}")
    return row


def target_format(container: Container, out: Path) -> Format:
    """Return the format to write: the input's, unless the target's ending asks for another."""
    if out.suffix:
        return _by_ending(out)
    return SAFETENSORS if container.format == SAFETENSORS.name else TORCH


def write(
    container: Container,
    values: Sequence[Any],
    out: Path,
    *,
    recipe: str,
    receipt: str,
    force: bool,
) -> Written:
    """Write a checkpoint with new values in its slots and everything else as it was.

    Args:
        container: What was read.
        values: One per slot: the module, changed in place, or weights without their prefix.
        out: Where to write; its ending picks the format where it differs from the input's.
        recipe: The recipe, to travel inside; empty for none.
        receipt: The receipt, likewise.
        force: Whether `out` may exist.

    Raises:
        CheckpointError: If it cannot be written; an existing file is as it was.
    """
    refuse_target(container.file, out, force=force)
    row = target_format(container, out)
    payload = refilled(container, values)
    if row.weights_only and container.format != row.name:
        payload = _weights(values[0])
    with replacing(out, force=force) as temporary:
        row.save(payload, temporary, Records(recipe, receipt), dict(container.metadata))
    return Written(out, out.stat().st_size, digest(out), row.name)


def _weights(value: Any) -> dict[str, Any]:
    """Return the primary model's weights, for a container that has no room for more."""
    if not isinstance(value, nn.Module):
        return dict(value)
    return {name: t for name, t in value.state_dict().items() if torch.is_tensor(t)}


def blank(model: nn.Module, out: Path) -> tuple[Container, Any]:
    """Return a container for a model that came from no file, and the value of its slot.

    Args:
        model: The model.
        out: Where it will be written; its ending picks the format.

    Raises:
        CheckpointError: If no format has this ending.
    """
    row = _by_ending(out) if out.suffix else TORCH
    payload: Any = _weights(model) if row.weights_only else model
    kind = Slot((), "weights", payload) if row.weights_only else Slot((), "module", model)
    return Container(row.name, Path(), payload, (kind,)), payload

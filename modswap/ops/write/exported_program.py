"""Write a swapped model as an archive of torch.export, compared with the model in memory."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from modswap.core.asked.job import Job
from modswap.core.errors import ShapeError
from modswap.core.kept.outcome import Outcome
from modswap.io.formats.choice import format_named
from modswap.io.formats.container import Container, Slot
from modswap.io.formats.exported import EXPORTED
from modswap.io.formats.exported.agreement import distance
from modswap.io.formats.exported.program import Export, Program, export, export_of
from modswap.io.formats.reading import read
from modswap.io.formats.writing import write
from modswap.io.rewriting import Records
from modswap.live_values import live_tensors, map_leaves, map_tensors, named_tensors
from modswap.ops.load.model import Loaded
from modswap.ops.run.devices import device_of
from modswap.ops.run.inputs import Case
from modswap.ops.swap import Prepared
from modswap.ops.write.prove import model_changes, tensor_ledger


def write_archive(
    job: Job,
    loaded: Loaded,
    before: Mapping[str, torch.Tensor],
    prepared: Prepared,
    records: Records,
    outcome: Outcome,
) -> Outcome:
    """Export a swapped model, write it, read it again and compare; return the outcome.

    `before` holds every tensor of the model as it was. Without `out` nothing is written.

    Raises:
        ShapeError: If torch cannot export it as it was, or the written archive computes something
            else.
        CheckpointError: If it cannot be written.
    """
    model = loaded.model
    how, program, notes = _program(model, prepared)
    outcome = replace(outcome, notes=(*outcome.notes, *notes))
    changes = model_changes(prepared)
    # in other formats a tensor outside the state dict comes from code and not from the file
    traced = format_named(loaded.container.format).traced
    after = named_tensors(model) if traced else dict(model.state_dict(keep_vars=True))
    if job.out is None:
        where = str(job.subject.file)
        found = tensor_ledger(before, after, changes, where=where, compare=False)
        return replace(outcome, ledger=found)
    wanted = before.keys() | after.keys()
    ledgers = []

    def proved(file: Path) -> None:
        # this file was just written here: reading it runs no code of anyone else's
        own = read(file, replace(job.subject.policy, trust=True)).slots[0].value
        held = {name: tensor for name, tensor in named_tensors(own).items() if name in wanted}
        ledgers.append(tensor_ledger(before, held, changes, where=str(job.out), compare=True))
        if not (prepared.unreal or how.training):
            _same(model, own, how, str(job.out))

    slot = Slot((), "module", program)
    source = loaded.container
    packed = Container(EXPORTED.name, source.file, (program, how), (slot,), held=source.held)
    written = write(packed, [program], job.out, records=records, force=job.force, accept=proved)
    return replace(outcome, ledger=ledgers[0], written=written, receipt_text=records.receipt)


def _same(model: nn.Module, own: nn.Module, how: Export, where: str) -> None:
    """Refuse an archive that computes something else than the model does."""
    apart = distance(model, own, how.args, how.kwargs)
    if apart:
        what = f"the exported model computes something else: outputs are {apart:.3g} apart"
        raise ShapeError(what, where, "swap in the eager model, and export that; and report this")


def _program(model: nn.Module, prepared: Prepared) -> tuple[Export, Program, tuple[str, ...]]:
    """Export a model as it was exported before, or by its first dummy call."""
    how = export_of(model)
    if how is None or not (how.args or how.kwargs):
        return _first_time(model, prepared)
    program, notes = export(model, how)
    return how, program, notes


def _first_time(model: nn.Module, prepared: Prepared) -> tuple[Export, Program, tuple[str, ...]]:
    """Export a model for evaluation by its first dummy call, its batch size open if possible."""
    how = _by_call(model, prepared.cases[0], prepared.seed)
    batched = _batched(how)
    if batched is not None:
        with suppress(ShapeError):
            program, notes = export(model, batched)
            return batched, program, ("exported for evaluation, at any batch size", *notes)
    program, notes = export(model, how)
    fixed = f"exported for evaluation, for inputs of {prepared.cases[0].call} and no other sizes"
    return how, program, (fixed, *notes)


def _by_call(model: nn.Module, case: Case, seed: int) -> Export:
    held = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(held, None)
    args, kwargs = case.call.live(seed, dtype, device_of(model))
    names = tuple(inspect.signature(model.forward).bind(*args, **kwargs).arguments)
    return Export(args, kwargs, names[: len(args)])


def _batched(how: Export) -> Export | None:
    """Return the same export with the first axis of every tensor open, if they have one size."""
    tensors = live_tensors([how.args, how.kwargs])
    if not tensors or {t.shape[0] if t.ndim else 0 for t in tensors} != {len(tensors[0])}:
        return None
    # torch takes a size of one for a constant
    double = len(tensors[0]) == 1

    def grown(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, tensor]) if double else tensor

    batch = torch.export.Dim("batch")
    args, kwargs = map_tensors(grown, how.args), map_tensors(grown, how.kwargs)
    inputs = {**dict(zip(how.names, args, strict=True)), **kwargs}
    shapes = map_leaves(lambda value: {0: batch} if torch.is_tensor(value) else None, inputs)
    return Export(args, kwargs, how.names, shapes)

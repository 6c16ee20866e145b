"""Write a verified swap to a file: rewritten by copy where that is possible, else saved anew."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.asked.job import Job, Policy
from modswap.core.decided.optimizer import Parameter
from modswap.core.kept.ledger import Changes
from modswap.core.kept.outcome import Ledger, Outcome
from modswap.core.progress import Progress
from modswap.io.formats.choice import format_named, target_format
from modswap.io.formats.container import Container, Slot
from modswap.io.formats.format import FileNames, Swap, Swaps
from modswap.io.formats.reading import read, tensors
from modswap.io.formats.writing import left_out, prepare_rewriting, write
from modswap.io.pickled.optimizers import Parameters
from modswap.io.rewriting import Records
from modswap.nn import CATALOGUE
from modswap.nn.inherit.respelling import tensors_of
from modswap.ops.apply import apply, module_at
from modswap.ops.build.fit import Built
from modswap.ops.build.starts.start import renewed
from modswap.ops.load.checksums import checksum_notes, compared
from modswap.ops.load.model import Loaded
from modswap.ops.run.describe import class_name
from modswap.ops.swap import Prepared
from modswap.ops.write.exported_program import write_archive
from modswap.ops.write.prove import mapped_names, model_changes, tensor_ledger
from modswap.ops.write.rewrite import data_ledger, records_of, rewritten
from modswap.ops.write.slot_values import (
    carried,
    converted_values,
    named_values,
    plain_values,
)


class Writer:
    """Write the file of a swap, made before the model is changed: its tensors are noted then.

    With `unread` the weights of the file are not to be read.
    """

    def __init__(self, job: Job, loaded: Loaded, progress: Progress, *, unread: bool) -> None:
        self.job = job
        self.loaded = loaded
        self.container = loaded.container
        self.progress = progress
        self.unread = unread
        # keeps the old modules' tensors in memory, which the ledger counts as dropped
        self.before = tensors(loaded.container)
        self.persistent = set(loaded.model.state_dict())
        self.parameters = _parameters(loaded.model)
        # new modules of copies of the model, made before these are changed; by slot and path
        self.renewed: dict[tuple[int, str], nn.Module] = {}

    def finish(self, outcome: Outcome, prepared: Prepared) -> Outcome:
        """Write the swapped model, read it back and prove what was kept; return the outcome."""
        swaps = self._swaps(prepared)
        policy = for_own_file(self.job.subject.policy, prepared)
        rewriting = prepare_rewriting(self.container, swaps, self.job.out, policy)
        if self.job.out is None or rewriting is None:
            checked = (checksum_notes if self.unread else compared)(self.job.subject)
            outcome = replace(outcome, notes=(*checked, *outcome.notes))
        if rewriting is None:
            outcome = replace(outcome, notes=(*outcome.notes, *self._left(self.job.out)))
            if target_format(self.container.format, self.job.out).traced:
                return self._archived(outcome, prepared)
            return self._saved(outcome, swaps, prepared)
        outcome = replace(outcome, notes=(*outcome.notes, *rewriting.notes))
        if self.job.out is None:
            where = str(self.container.file)
            return replace(outcome, ledger=data_ledger(rewriting, rewriting.after, where))
        self.progress(f"writing {self.job.out}")
        records, held = self._records(prepared), self.container.held
        return rewritten(outcome, rewriting, self.job, self.job.out, records, held)

    def mapped(self, prepared: Prepared) -> frozenset[str]:
        """Return the names in the written file of the tensors that were made of old ones."""
        names = self._file_names(prepared)
        beginnings = [slot.beginning for slot in self.container.slots]
        return mapped_names(prepared, beginnings, names.new if names is not None else None)

    def _saved(self, outcome: Outcome, swaps: Swaps, prepared: Prepared) -> Outcome:
        """Write the model by its format's own writer, and compare what was written."""
        values = [self._value(swap, prepared) for swap in swaps.slots]
        changes = swaps.changes
        if self.job.out is None:
            return replace(outcome, ledger=self._expected(values, changes))
        self.progress(f"writing {self.job.out}")
        records = self._records(prepared)
        found: list[Ledger] = []
        written = write(
            self.container,
            values,
            self.job.out,
            records=records,
            force=self.job.force,
            accept=lambda file: found.append(self._prove(file, changes, prepared)),
        )
        return replace(outcome, ledger=found[0], written=written, receipt_text=records.receipt)

    def _archived(self, outcome: Outcome, prepared: Prepared) -> Outcome:
        """Export the swapped model, write it and compare what was written."""
        slot = self.container.slots[0]
        held = _below(self.before, slot.beginning, None)
        if not format_named(self.container.format).traced:
            held = {name: tensor for name, tensor in held.items() if name in self.persistent}
        self.progress("exporting the swapped model")
        records = self._records(prepared)
        return write_archive(self.job, self.loaded, held, prepared, records, outcome)

    def _records(self, prepared: Prepared) -> Records:
        if not self.job.recipe.rules:  # nothing is known of how the model came to be as it is
            return Records()
        return records_of(self.job, prepared, self.container.file, self.loaded.receipt)

    def write_copy(self, folder: Path, outcome: Outcome, prepared: Prepared) -> Path:
        """Write the swapped model into another folder, as `finish` does; return the file."""
        out = folder / (self.job.out or self.container.file).name
        other = copy.copy(self)
        other.job = replace(self.job, out=out)
        other.finish(outcome, prepared)
        return out

    def _swaps(self, prepared: Prepared) -> Swaps:
        """Return the new modules of every slot."""
        slots = tuple(self._swap(slot, prepared) for slot in range(len(self.container.slots)))
        swapped = tuple(f"{path}." for built in prepared.built for path in built.paths)
        after = _parameters(self.loaded.model)
        return Swaps(slots, Parameters(self.parameters, after, swapped))

    def _swap(self, index: int, prepared: Prepared) -> Swap:
        """Return the new modules for one slot, in its dtype."""
        slot = self.container.slots[index]
        own = slot.kind == "module" and slot.value is self.loaded.model
        dtype = None if own else _floating(slot)
        modules = tuple(
            (built.paths, copied(self._module(index, built), dtype)) for built in prepared.built
        )
        return Swap(slot, modules, names=self._file_names(prepared))

    def _module(self, index: int, built: Built) -> nn.Module:
        """Return the new module for a slot; in a copy of the model it inherits from that copy."""
        path = built.sites[0].path
        if (index, path) not in self.renewed:
            if index == 0 or built.heir is None or self.unread:
                return built.module
            state = _state_of(self.container.slots[index], path)
            known = tensors_of(built.heir.old).keys() <= state.keys()
            made = renewed(built.module, built.heir, state) if known else built.module
            self.renewed[index, path] = made
        return self.renewed[index, path]

    def _file_names(self, prepared: Prepared) -> FileNames | None:
        """Return the names of the swap in the file; None where the file has those of the model."""
        stored = self.loaded.stored
        if stored is None or stored.plain:
            return None
        paths = [path for built in prepared.built for path in built.paths]
        wanted = self.loaded.model.state_dict()
        return stored.file_names(paths, wanted, str(self.container.file))

    def _left(self, out: Path | None) -> tuple[str, ...]:
        """Return a note for each part that is left out, or that is kept and no longer fits."""
        return (left_out(self.container, out) if out else ()) or _left_behind(self.container)

    def _value(self, swap: Swap, prepared: Prepared) -> Any:
        """Return the new value of a slot: the module changed in place, or the new weights."""
        model, slot = self.loaded.model, swap.slot
        if slot.kind == "module":
            if slot.value is not model:  # a second copy of the model, such as its average
                apply(slot.value, swap.modules)
            return slot.value
        covered, state = model_changes(prepared), model.state_dict()
        state |= {name: tensor for name, tensor in _new_tensors(swap) if name in state}
        stored = self.loaded.stored
        if stored is None or swap.names is None:
            return plain_values(slot.value, state, covered)
        if self._as_in_model:
            return converted_values(stored, state, covered)
        return named_values(slot.value, stored, swap.names, state, covered)

    @property
    def _as_in_model(self) -> bool:
        """Return whether the written file gets the model's names in place of its library's."""
        stored, own = self.loaded.stored, self.container.format
        other = target_format(own, self.job.out) is not format_named(own)
        return other and stored is not None and stored.converted

    def _expected(self, values: Sequence[Any], changes: Changes) -> Ledger:
        """Return the ledger of the file that would be written."""
        after = {} if _all_weights(self.container) else tensors(self.container)
        for name, tensor in self.before.items():
            if not changes.covers(name):
                after.setdefault(name, tensor)
        for slot, value in zip(self.container.slots, values, strict=True):
            if slot.kind == "weights":
                after.update({f"{slot.beginning}{name}": t for name, t in value.items()})
        where = str(self.container.file)
        return tensor_ledger(self.before, after, changes, where=where, compare=False)

    def _prove(self, file: Path, changes: Changes, prepared: Prepared) -> Ledger:
        """Read the written file, and compare every kept tensor with the one before the swap."""
        self.progress("comparing every kept tensor with the file written")
        container = read(file, for_own_file(self.job.subject.policy, prepared))
        after = tensors(container)
        before = self.before
        old, new = self.container.slots[0].beginning, container.slots[0].beginning
        if container.format != self.container.format or old != new:
            # another container: only the weights went over, under their own names
            before, changes = self._carried_over(before, old, changes, prepared)
            after = _below(after, new, None)
        return tensor_ledger(before, after, changes, where=str(self.job.out), compare=True)

    def _carried_over(
        self, before: Mapping[str, Any], beginning: str, changes: Changes, prepared: Prepared
    ) -> tuple[dict[str, Any], Changes]:
        """Return the tensors that another container takes over, by their names there."""
        stored = self.loaded.stored
        if stored is None or stored.plain:
            return _below(before, beginning, self.persistent), model_changes(prepared)
        if not self._as_in_model:
            names = [name.removeprefix(beginning) for name in changes.names]
            return _below(before, beginning, None), Changes((), names=frozenset(names))
        gone = model_changes(prepared)
        return {**stored.weights, **carried(stored, gone)}, gone


def _state_of(slot: Slot, path: str) -> dict[str, torch.Tensor]:
    """Return the state of a module in a slot, before the swap."""
    if slot.kind == "module":
        return tensors_of(module_at(slot.value, path))
    start = f"{path}."
    return {n.removeprefix(start): t for n, t in slot.value.items() if n.startswith(start)}


def _new_tensors(swap: Swap) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a slot's new modules by their names in the model."""
    for paths, module in swap.modules:
        for name, tensor in module.state_dict().items():
            yield from ((f"{path}.{name}", tensor) for path in paths)


def _below(
    named: Mapping[str, torch.Tensor], prefix: str, only: set[str] | None
) -> dict[str, torch.Tensor]:
    bare = {n.removeprefix(prefix): t for n, t in named.items() if n.startswith(prefix)}
    return {name: t for name, t in bare.items() if only is None or name in only}


def _all_weights(container: Container) -> bool:
    return all(slot.kind == "weights" for slot in container.slots)


def _parameters(model: nn.Module) -> tuple[Parameter, ...]:
    """Return a model's parameters in its order, shared ones once."""
    return tuple(
        Parameter(name, tuple(parameter.shape), parameter.requires_grad)
        for name, parameter in model.named_parameters()
    )


def copied(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """Return a module in a dtype; itself if it is in it already."""
    tensors = (value for value in module.state_dict().values() if torch.is_tensor(value))
    floating = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return module if dtype is None or floating <= {dtype} else copy.deepcopy(module).to(dtype)


def _floating(slot: Slot) -> torch.dtype | None:
    """Return the dtype of a slot's first floating tensor."""
    held = slot.value.parameters() if slot.kind == "module" else slot.value.values()
    tensors = (value for value in held if torch.is_tensor(value))
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)


def _left_behind(container: Container) -> tuple[str, ...]:
    """Return a note for each optimizer of a training checkpoint, which no longer fits the model."""
    payload = container.payload
    if not isinstance(payload, Mapping):
        return ()
    stale = [
        key
        for key, value in payload.items()
        if isinstance(value, Mapping) and {"state", "param_groups"} <= value.keys()
    ]
    return tuple(
        f"{key!r} was kept as it is; its state belongs to the old parameters: "
        "build a fresh optimizer before training on"
        for key in stale
    )


def for_own_file(policy: Policy, prepared: Prepared) -> Policy:
    """Return the policy with the classes of others that the user's recipe put in."""
    modules = [
        module
        for built in prepared.built
        if ":" in built.blueprint.module or CATALOGUE.reference(built.blueprint.module)
        for module in built.module.modules()
    ]
    dotted = sorted({class_name(module) for module in modules})
    return replace(policy, allow=(*policy.allow, *dotted))

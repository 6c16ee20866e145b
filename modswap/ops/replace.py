"""The main job and its dry run: a file in, a changed file out, with proof."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.errors import ModswapError
from modswap.core.job import Job, Policy
from modswap.core.outcome import Ledger, Outcome, Written
from modswap.io.formats import left_out, read, refuse_target, tensors, write
from modswap.io.formats.container import Container, Slot
from modswap.io.recipe import write_recipe
from modswap.nn import CATALOGUE
from modswap.ops.apply import swapped
from modswap.ops.describe import class_name
from modswap.ops.inputs import calls_of
from modswap.ops.load import Loaded, intact, load, with_recipe
from modswap.ops.prove import Names, ledger
from modswap.ops.records import effective, make_receipt
from modswap.ops.swap import (
    Prepared,
    Progress,
    count_params,
    failure,
    prepare,
    silent,
    site_outcomes,
    verified,
)


def replace_file(job: Job, progress: Progress = silent) -> Outcome:
    """Swap modules in a file: plan, swap, verify, write, prove.

    Args:
        job: What to do. Without `out` nothing is written.
        progress: Told what is being done.

    Raises:
        ModswapError: For whatever stops it before the verification; what the verification finds
            is in the outcome's `error`.
    """
    return _run(job, "replace", progress, unreal=False)


def check_file(job: Job, progress: Progress = silent) -> Outcome:
    """Do all of `replace_file` but the writing, without reading the weights.

    Args:
        job: What to check; its `out` is passed over.
        progress: Told what is being done.

    Raises:
        ModswapError: As `replace_file`.
    """
    return _run(replace(job, out=None), "check", progress, unreal=True)


def _run(job: Job, command: str, progress: Progress, *, unreal: bool) -> Outcome:
    started = time.monotonic()
    recipe, subject = job.recipe, with_recipe(job.subject, job.recipe)
    if job.out is not None:
        refuse_target(subject.file, job.out, force=job.force)
    progress(f"loading {subject.file}")
    loaded = load(subject, recipe)
    # `check` reads no weights
    told = () if unreal else intact(subject)
    surgery = _Surgery(replace(job, subject=subject), loaded, progress)
    calls = calls_of(subject.inputs)
    prepared = prepare(loaded.model, recipe, calls, unreal=unreal, progress=progress)
    params = count_params(loaded.model)
    outcome = Outcome(
        command=command,
        checkpoint=str(job.subject.file),
        recipe=recipe.source.name,
        plan=prepared.plan,
        sites=site_outcomes(prepared),
        params_before=params,
        params_after=params,
        notes=(*told, *loaded.container.notes, *prepared.notes),
    )
    try:
        with verified(loaded.model, prepared, progress) as verdict:
            outcome = replace(outcome, verdict=verdict, params_after=count_params(loaded.model))
            if not verdict.ok:
                raise failure(verdict)
            outcome = surgery.finish(outcome, prepared)
    except ModswapError as error:
        outcome = replace(outcome, error=error)
    return replace(outcome, seconds=time.monotonic() - started)


class _Surgery:
    """What has to be known of a file before its model is touched, and what is written after."""

    def __init__(self, job: Job, loaded: Loaded, progress: Progress) -> None:
        self.job = job
        self.loaded = loaded
        self.container = loaded.container
        self.progress = progress
        # the old modules' tensors stay reachable here: they are what the ledger calls dropped
        self.before = tensors(loaded.container)
        self.persistent = set(loaded.model.state_dict())

    def finish(self, outcome: Outcome, prepared: Prepared) -> Outcome:
        """Write the swapped model, read it back and prove what was kept; return the outcome."""
        names = Names(tuple(self._prefixes(prepared)))
        values = [self._value(slot, prepared) for slot in self.container.slots]
        notes = (*outcome.notes, *self._left(self.job.out))
        if self.job.out is None:
            found = self._expected(values, names)
            return replace(outcome, ledger=found, notes=notes)
        self.progress(f"writing {self.job.out}")
        written = self._write(self.job.out, values, prepared)
        self.progress("comparing every kept tensor with the file written")
        found = self._prove(written, names, prepared)
        return replace(outcome, ledger=found, written=written, notes=notes)

    def _left(self, out: Path | None) -> tuple[str, ...]:
        """Return what a file will not hold, or what it keeps that does not fit any more."""
        return (left_out(self.container, out) if out else ()) or _left_behind(self.container)

    def _prefixes(self, prepared: Prepared) -> list[str]:
        paths = [path for built in prepared.built for path in built.paths]
        return [f"{_inside(slot)}{path}." for slot in self.container.slots for path in paths]

    def _value(self, slot: Slot, prepared: Prepared) -> Any:
        """Return what goes into a slot: the module changed in place, or the new weights."""
        model = self.loaded.model
        if slot.kind == "module":
            if slot.value is not model:
                _follow(slot.value, prepared)
            return slot.value
        covered = Names(tuple(f"{p}." for built in prepared.built for p in built.paths))
        return {
            name: slot.value[name]
            if name in slot.value and not covered.covers(name)
            else _cast_like(value, slot.value)
            for name, value in model.state_dict().items()
        }

    def _expected(self, values: Sequence[Any], names: Names) -> Ledger:
        """Return the ledger of the file that would be written."""
        after = {} if _all_weights(self.container) else tensors(self.container)
        for name, tensor in self.before.items():
            if not names.covers(name):
                after.setdefault(name, tensor)
        for slot, value in zip(self.container.slots, values, strict=True):
            if slot.kind == "weights":
                after.update({f"{_inside(slot)}{name}": t for name, t in value.items()})
        where = str(self.container.file)
        return ledger(self.before, after, names, where=where, compare=False)

    def _write(self, out: Path, values: Sequence[Any], prepared: Prepared) -> Written:
        job = self.job
        text = write_recipe(effective(job.recipe, job))
        receipt = make_receipt(
            prepared, text, source=self.container.file, earlier=self.loaded.receipt
        )
        return write(
            self.container,
            values,
            out,
            recipe=text,
            receipt=receipt.text(),
            force=job.force,
        )

    def _prove(self, written: Written, names: Names, prepared: Prepared) -> Ledger:
        container = read(written.file, _for_own_file(self.job.subject.policy, prepared))
        after = tensors(container)
        before = self.before
        old, new = _inside(self.container.slots[0]), _inside(container.slots[0])
        if written.format != self.container.format or old != new:
            # another container: only the weights went over, under their own names
            before = _below(before, old, self.persistent)
            after = _below(after, new, None)
            names = Names(tuple(f"{p}." for built in prepared.built for p in built.paths))
        return ledger(before, after, names, where=str(written.file), compare=True)


def _inside(slot: Slot) -> str:
    """Return what a slot's tensor names begin with."""
    return "".join(f"{key}." for key in slot.keys) + slot.prefix


def _below(
    named: Mapping[str, torch.Tensor], prefix: str, only: set[str] | None
) -> dict[str, torch.Tensor]:
    bare = {n.removeprefix(prefix): t for n, t in named.items() if n.startswith(prefix)}
    return {name: t for name, t in bare.items() if only is None or name in only}


def _all_weights(container: Container) -> bool:
    return all(slot.kind == "weights" for slot in container.slots)


def _cast_like(value: Any, weights: Mapping[str, Any]) -> Any:
    """Return a new tensor in the dtype of a slot's other floating tensors."""
    floating = next((t for t in weights.values() if t.is_floating_point()), None)
    if floating is None or not torch.is_tensor(value) or not value.is_floating_point():
        return value
    return value.to(floating.dtype)


def _follow(other: nn.Module, prepared: Prepared) -> None:
    """Put copies of the new modules into a second copy of the model, such as its average."""
    floating = next((p.dtype for p in other.parameters() if p.is_floating_point()), None)
    placements = [
        (built.paths, copy.deepcopy(built.module).to(dtype=floating)) for built in prepared.built
    ]
    with swapped(other, placements):
        pass


def _left_behind(container: Container) -> tuple[str, ...]:
    """Return what in a training checkpoint does not fit the swapped model any more."""
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


def _for_own_file(policy: Policy, prepared: Prepared) -> Policy:
    """Return the policy with the classes of others that the user's recipe put in."""
    modules = [
        module
        for built in prepared.built
        if ":" in built.blueprint.module or CATALOGUE.reference(built.blueprint.module)
        for module in built.module.modules()
    ]
    dotted = sorted({class_name(module) for module in modules})
    return replace(policy, allow=(*policy.allow, *dotted))

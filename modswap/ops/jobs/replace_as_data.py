"""Swap modules in a file without building its model: the pickle is changed as data."""

import time
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from modswap.core.asked.job import Job
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.used_paths import paths_read
from modswap.core.decided.blueprint import Blueprint
from modswap.core.decided.optimizer import Parameter
from modswap.core.decided.plan import Plan, Step, make_plan
from modswap.core.errors import ModswapError, RecipeError, UsageError
from modswap.core.kept.outcome import Outcome
from modswap.core.kept.receipt import read_receipt
from modswap.core.progress import Progress, silent
from modswap.core.seen.site import Site
from modswap.io.formats.choice import ending_note
from modswap.io.formats.container import Container, Slot
from modswap.io.formats.format import Swap, Swaps
from modswap.io.formats.outline import survey
from modswap.io.formats.survey import Survey
from modswap.io.formats.target import refuse_target
from modswap.io.formats.writing import prepare_copy
from modswap.io.pickled.optimizers import Parameters
from modswap.io.raw.held import Held, holding
from modswap.io.rewriting import Rewriting
from modswap.ops.build.fit import Built, Fitter, build_plan
from modswap.ops.build.fit_from_layers import fit_from_layers
from modswap.ops.build.make import new_module, seed_of
from modswap.ops.build.starts.initialise import initialise
from modswap.ops.build.take_over import take_over, unknown_attributes
from modswap.ops.outcomes import count_params, site_outcomes
from modswap.ops.run.describe import one_line
from modswap.ops.swap import Prepared
from modswap.ops.write.rewrite import data_ledger, records_of, rewritten
from modswap.ops.write.writer import copied

NOT_RUN = (
    "nothing was built or run (--no-forward): that the new modules fit is not verified; "
    "check it where the model's code is"
)


def replace_unbuilt(job: Job, progress: Progress = silent) -> Outcome:
    """Swap modules in a file whose classes need not be importable; without `out` write nothing.

    Sizes come from the recipe, or from the attributes of torch's own layers in the file.

    Raises:
        ModswapError: If the recipe does not fit the file, or the file cannot be read or written.
        UsageError: If names are to be others in a model, which is not built.
    """
    started = time.monotonic()
    if job.subject.renames:
        what = "--no-forward builds no model, whose names these could be"
        raise UsageError(what, "--rename", "leave it out: patterns match the names in the file")
    if job.recipe.insert:
        what = "--no-forward puts nothing in beside modules, since no pass shows their tensors"
        raise UsageError(what, job.recipe.at("insert"), "leave --no-forward out")
    if job.out is not None:
        reads = paths_read(job.subject, job.recipe)
        refuse_target(job.subject.file, job.out, force=job.force, reads=reads)
    with holding(job.subject.file) as held:
        outcome = _held(job, held, held.watched(progress))
    return replace(outcome, seconds=time.monotonic() - started)


def _held(job: Job, held: Held, progress: Progress) -> Outcome:
    progress(f"reading {job.subject.file}")
    found = survey(job.subject.file)
    plan = make_plan(job.recipe, [one.site for one in found.sites])
    built = _built(plan, found, job)
    prepared = Prepared((), (), plan, built, unreal=True, seed=job.recipe.seed)
    grown = sum(count_params(one.module) for one in built)
    shrunk = sum(site.params for one in built for site in one.sites)
    outcome = Outcome(
        command="replace",
        checkpoint=str(job.subject.file),
        recipe=job.recipe.source.name,
        plan=prepared.plan,
        sites=site_outcomes(prepared),
        params_before=found.params,
        params_after=found.params + grown - shrunk,
        notes=(NOT_RUN, *ending_note(found.format, job.subject.file, job.out)),
        stamps=held.stamps,
    )
    try:
        return _finish(_Opened(job, found, held, progress), prepared, outcome)
    except ModswapError as error:
        return replace(outcome, error=error)


class _Opened(NamedTuple):
    """A file that was read as data, and is held, with the job to do on it."""

    job: Job
    found: Survey
    held: Held
    progress: Progress


def _finish(opened: _Opened, prepared: Prepared, outcome: Outcome) -> Outcome:
    job, found, held, progress = opened
    where = str(job.subject.file)
    prepared_file = _rewriting(job, found, prepared)
    outcome = replace(outcome, notes=(*outcome.notes, *prepared_file.notes))
    if job.out is None:
        held.refuse_change()
        return replace(outcome, ledger=data_ledger(prepared_file, prepared_file.after, where))
    earlier = read_receipt(found.receipt, where) if found.receipt else None
    progress(f"writing {job.out}")
    records = records_of(job, prepared, job.subject.file, earlier)
    return rewritten(outcome, prepared_file, job, job.out, records, held)


def _built(plan: Plan, found: Survey, job: Job) -> tuple[Built, ...]:
    """Return every new module."""
    known = {one.site.path: one for one in found.sites}

    def fit(fitter: Fitter, site: Site) -> Blueprint:
        return fit_from_layers(known[site.path], fitter)

    def make(step: Step, sites: tuple[Site, ...], blueprint: Blueprint) -> Built:
        old = known[sites[0].path]
        _refuse_start(step, job.recipe)
        module = _new_module(step, sites, blueprint, job.recipe)
        attributes = unknown_attributes(module, old.site.class_name, old.attributes)
        notes = take_over(module, sites[0], attributes)
        if step.rule.init is not None:
            path = sites[0].path
            seed = seed_of(job.recipe, path)
            notes = (*notes, *initialise(module, step.rule.init, seed=seed, path=path))
        return Built(step, sites, blueprint, module, notes)

    return build_plan(plan, job.recipe, fit, make)


def _refuse_start(step: Step, recipe: Recipe) -> None:
    """Refuse a start that needs the old module, which is not built."""
    start = step.rule.start
    if start != "fresh":
        what = f"`start: {start}` needs the model, which --no-forward does not build"
        where = recipe.at(*step.place, "start")
        raise RecipeError(what, where, "leave --no-forward out, or start fresh")


def _new_module(
    step: Step, sites: tuple[Site, ...], blueprint: Blueprint, recipe: Recipe
) -> nn.Module:
    """Return a new module, made of arguments that no forward pass has checked."""
    try:
        return new_module(step, sites, blueprint, recipe)
    except ModswapError:
        raise
    except Exception as error:
        what = f"{step.rule.with_} refused its args for {sites[0].path!r}: {one_line(error)}"
        where = recipe.at(*step.place, "args")
        raise RecipeError(what, where, "give every argument that it needs") from error


def _rewriting(job: Job, found: Survey, prepared: Prepared) -> Rewriting:
    slots = tuple(Slot(place.keys, place.kind, None, place.prefix) for place in found.places)
    swaps = []
    for slot, place in zip(slots, found.places, strict=True):
        dtype = getattr(torch, place.dtype)
        new = tuple((one.paths, copied(one.module, dtype)) for one in prepared.built)
        swaps.append(Swap(slot, new))
    container = Container(found.format, job.subject.file, None, slots, found.metadata)
    all_swaps = Swaps(tuple(swaps), _parameters(found, prepared))
    return prepare_copy(container, all_swaps, job.out, job.subject.policy)


def _parameters(found: Survey, prepared: Prepared) -> Parameters:
    """Return the model's parameters before and after."""
    # a module of several sites keeps its parameters at the first of them
    new = {one.sites[0].path: one.module for one in prepared.built}
    prefixes = tuple(f"{path}." for one in prepared.built for path in one.paths)
    own: dict[str, list[Parameter]] = {}
    for parameter in found.parameters:
        own.setdefault(parameter.name.rpartition(".")[0], []).append(parameter)
    after = own.get("", [])
    for one in found.sites:
        path = one.site.path
        if path in new:
            own_new = new[path].named_parameters(prefix=path)
            after = [*after, *(Parameter(n, tuple(p.shape), p.requires_grad) for n, p in own_new)]
        elif not f"{path}.".startswith(prefixes):
            after = [*after, *own.get(path, ())]
    return Parameters(found.parameters, after, prefixes)

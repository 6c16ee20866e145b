"""Heal a swapped file: its new modules learn to compute what the old ones did, without labels."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from modswap.core.asked.healing import HealingRequest
from modswap.core.asked.job import HealJob, Job, Subject
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.used_paths import (
    DATA,
    INPUT,
    UsedPath,
    healing_files,
    paths_read,
    resume_file,
)
from modswap.core.decided.plan import Plan
from modswap.core.errors import UsageError
from modswap.core.healed.healing import HEALED
from modswap.core.kept.model_view import ModelView
from modswap.core.kept.outcome import Outcome, SiteOutcome
from modswap.core.kept.receipt import record
from modswap.core.progress import Progress, silent
from modswap.io.formats.choice import ending_note
from modswap.io.formats.target import refuse_target
from modswap.io.raw.held import Held, holding, stamps_of
from modswap.io.recipe.embedded import embedded_recipe
from modswap.io.recognise.look import look_at
from modswap.ops.apply import applied, apply
from modswap.ops.build.fit import Built
from modswap.ops.first_input.find import first_pass
from modswap.ops.heal import ranks
from modswap.ops.heal.data.taker import Taker, told_size
from modswap.ops.heal.fitting.resume import ResumeFile
from modswap.ops.heal.run import HealingWishes, Result, heal_models, healed_start
from modswap.ops.heal.sites import HealedSite, sites_to_heal
from modswap.ops.load.model import Loaded
from modswap.ops.measure.site_routing import pictured, site_routings
from modswap.ops.outcomes import count_params, site_outcomes
from modswap.ops.reopen import reopen
from modswap.ops.run.inputs import Case, DummyCall
from modswap.ops.run.without_compiler import without_compiler
from modswap.ops.swap import Prepared
from modswap.ops.write.writer import Writer


def heal_file(job: HealJob, progress: Progress = silent) -> Outcome:
    """Heal the new modules of a file against the file before the swap; without `out` write nothing.

    Raises:
        UsageError: If there is nothing to heal, or an option does not fit.
        InputError: If the data cannot be used.
        ModswapError: If a file cannot be read or written.
    """
    started = time.monotonic()
    if job.out is not None:
        used = healing_files(job.data, job.against, job.request.evaluate)
        reads = (*paths_read(job.subject), *used)
        refuse_target(job.subject.file, job.out, force=job.force, reads=reads)
    look_at_data(job.data)
    with (
        holding(job.subject.file) as held,
        holding(job.against) as original,
        without_compiler(),
        ranks.joined(job.request.device) as device,
    ):
        outcome = _held(job, device, held, original.watched(held.watched(progress)))
    return replace(outcome, seconds=time.monotonic() - started)


def look_at_data(data: str) -> None:
    """Refuse a file of data that is not there, before anything takes time.

    Raises:
        CheckpointError: If it cannot be read.
    """
    for used in healing_files(data):
        if used.name == DATA:
            look_at(used.file)


def _held(job: HealJob, device: str, held: Held, progress: Progress) -> Outcome:
    progress(f"loading {job.subject.file}")
    loaded = reopen(job.subject)
    loaded = replace(loaded, container=replace(loaded.container, held=held))
    progress(f"loading {job.against}")
    before = reopen(replace(job.subject, file=job.against))
    records = loaded.receipt.sites if loaded.receipt is not None else ()
    sites = sites_to_heal(before.model, loaded.model, records)
    progress("looking for an input that fits")
    call = first_pass(loaded, job.subject).calls[0]
    shown = pictured(call, job.image)
    request = replace(_request(loaded, job.request), device=device)
    resume = _kept(job) if ranks.first() else ResumeFile(None, {})
    resume.share()
    wanted = HealingWishes(job.data, request, told_size(job.subject.inputs), progress, resume)
    result = heal_models(Taker.of(before, call), loaded.model, sites, wanted)
    writer = Writer(_as_swap(job, loaded), loaded, progress, unread=False)
    built = result.built(loaded.model)
    prepared = Prepared((Case(call),), (), Plan(()), built, unreal=False, seed=0)
    outcome = Outcome(
        command="heal",
        checkpoint=str(job.subject.file),
        recipe="",
        sites=_sites(prepared, sites),
        params_before=count_params(loaded.model),
        params_after=count_params(loaded.model) + _added(built),
        notes=(*ending_note(loaded.container.format, job.subject.file, job.out),),
        stamps=held.stamps,
        healing=result.healing,
        view=ModelView() if job.view else None,
    )
    if not ranks.first():
        return outcome
    with applied(loaded.model, prepared.placements):
        outcome = writer.finish(_routed(outcome, loaded.model, result, shown), prepared)
    if outcome.ledger is not None:
        outcome = replace(outcome, ledger=outcome.ledger.with_mapped(writer.mapped(prepared)))
    if job.out is not None and not result.healing.interrupted:
        resume.remove()
    return outcome


def healed_swap(
    job: Job, loaded: Loaded, prepared: Prepared, outcome: Outcome, progress: Progress
) -> tuple[Outcome, Prepared]:
    """Heal the new modules of a swap in place, before they are written.

    Norms that were estimated again are further modules of the swap.

    Raises:
        UsageError: If the weights are too large to run the model on them.
        ModswapError: If the data cannot be used.
    """
    if prepared.unreal:
        what = "the weights are too large to run the model on them here"
        raise UsageError(
            what, "--heal", "leave it out, and heal the written file by `modswap heal`"
        )
    progress(f"loading {job.subject.file} once more")
    before = reopen(job.subject, job.recipe)
    records = [record(built.paths, built.blueprint) for built in prepared.built]
    sites = sites_to_heal(before.model, loaded.model, records)
    call = prepared.cases[0].call
    request = _request(loaded, job.healing or HealingRequest())
    wanted = HealingWishes(job.heal, request, told_size(job.subject.inputs), progress)
    result = heal_models(Taker.of(before, call), loaded.model, sites, wanted)
    new = {path for site in sites for path in site.paths}
    result.put_into(loaded.model, [path for path in result.changed if path in new])
    if result.changed:
        built = tuple(replace(one, started=healed_start(one)) for one in prepared.built)
        prepared = replace(prepared, built=built)
        told = (replace(one, start=HEALED, mapped=(), fresh=()) for one in outcome.sites)
        outcome = replace(outcome, sites=tuple(told))
    others = tuple(one for one in result.built(loaded.model) if one.paths[0] not in new)
    apply(loaded.model, [(one.paths, one.module) for one in others])
    beside = _added(others)
    outcome = replace(outcome, healing=result.healing, params_after=outcome.params_after + beside)
    outcome = _routed(outcome, loaded.model, result, pictured(call, job.image))
    return outcome, replace(prepared, built=(*prepared.built, *others))


def _routed(outcome: Outcome, model: nn.Module, result: Result, shown: DummyCall) -> Outcome:
    """Return the outcome whose view, if asked for, has the routing of healed modules.

    It is drawn over the picture of a call, or over one of those that judged them.
    """
    judged, view = result.judged, outcome.view
    if view is None:
        return outcome
    paths = [site.new_path for site in outcome.sites]
    routings = site_routings(model, paths, shown)
    if not routings and judged is not None:
        routings = site_routings(model, paths, DummyCall(judged.args, judged.kwargs))
    return replace(outcome, view=replace(view, routings=routings))


def _added(built: Sequence[Built]) -> int:
    """Return the number of parameters in modules that were not there before."""
    return sum(p.numel() for one in built if not one.there for p in one.module.parameters())


def _request(loaded: Loaded, request: HealingRequest) -> HealingRequest:
    """Return a request without stages that would change what several copies in a file share.

    Raises:
        UsageError: If all weights are to change.
    """
    if len(loaded.container.slots) == 1:
        return request
    if request.everything:
        what = "the file holds the model more than once, with weights of its own each time"
        raise UsageError(what, "--all", "leave it out, or save the one that you want by itself")
    return replace(request, stages=tuple(one for one in request.stages if one != "norms"))


def _kept(job: HealJob) -> ResumeFile:
    """Return the file that keeps the state of the run, with what it holds of an earlier one."""
    wishes = {name: _plain(value) for name, value in asdict(job.request).items()}
    del wishes["shard"]  # a run goes on with another number of processes, and in parts or whole
    depends = {"file": str(job.subject.file), "original": str(job.against), "data": job.data}
    subject = job.subject
    depends["model"] = f"{subject.factory} {subject.renames} {subject.inputs}"
    for used in (UsedPath(INPUT, subject.file), *healing_files(job.data, job.against)):
        sizes = [(one.name, one.nbytes, one.mtime_ns) for one in stamps_of(used.file)]
        depends[f"size and time of {used.name}"] = str(sizes)
    if job.out is None:
        if job.resume:
            what = "a dry run leaves nothing to go on from"
            raise UsageError(what, "--resume", "leave it out, or name OUT in place of --dry-run")
        return ResumeFile(None, {})
    file = resume_file(job.out)
    if job.resume:
        return ResumeFile.read(file, {**depends, **wishes})
    return ResumeFile.begin(file, {**depends, **wishes}, force=job.force)


def _plain(value: Any) -> str | int | float | bool | None:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _as_swap(job: HealJob, loaded: Loaded) -> Job:
    """Return the job of the swap that the file records, to be written again."""
    text = loaded.container.recipe
    recipe = embedded_recipe(text, str(job.subject.file)) if text else _NO_RECIPE
    subject: Subject = replace(job.subject, inputs=())
    return Job(subject, recipe, job.out, job.force)


_NO_RECIPE = Recipe.model_construct(version=1)


def _sites(prepared: Prepared, sites: Sequence[HealedSite]) -> tuple[SiteOutcome, ...]:
    """Return the records of the new modules, without the norms behind them."""
    own = {site.paths[0] for site in sites}
    found = site_outcomes(prepared)
    return tuple(replace(one, start=HEALED) for one in found if one.new_path in own)

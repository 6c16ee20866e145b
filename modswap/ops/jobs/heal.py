"""Heal a swapped file: its new modules learn to compute what the old ones did, without labels."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.asked.job import HealJob, Job, Subject
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.rule import Rule
from modswap.core.asked.used_paths import paths_read
from modswap.core.decided.blueprint import Blueprint
from modswap.core.decided.plan import Plan, Step
from modswap.core.decided.started import Started
from modswap.core.kept.outcome import Outcome, SiteOutcome
from modswap.core.progress import Progress, silent
from modswap.core.seen.site import Site
from modswap.io.formats.choice import ending_note
from modswap.io.formats.target import refuse_target
from modswap.io.raw.held import Held, holding
from modswap.io.recipe.embedded import embedded_recipe
from modswap.nn.inherit.respelling import tensors_of
from modswap.ops.apply import applied, module_at
from modswap.ops.build.fit import Built
from modswap.ops.first_input.find import Found, first_pass
from modswap.ops.heal.data.open import open_samples
from modswap.ops.heal.data.taker import DataRequest, Taker, told_size
from modswap.ops.heal.fitting.resume import ResumeFile
from modswap.ops.heal.healer import Healed, Healer
from modswap.ops.heal.inherit import inheriting
from modswap.ops.heal.passes import Models
from modswap.ops.heal.sites import HealedSite, sites_to_heal
from modswap.ops.heal.working import moved, running, taken_back, working_copy
from modswap.ops.load.model import Loaded
from modswap.ops.outcomes import count_params, site_outcomes
from modswap.ops.reopen import reopen
from modswap.ops.run.describe import class_name
from modswap.ops.run.inputs import Case
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
        reads = paths_read(job.subject)
        refuse_target(job.subject.file, job.out, force=job.force, reads=reads)
        refuse_target(job.against, job.out, force=job.force)
    with holding(job.subject.file) as held, without_compiler():
        outcome = _held(job, held, held.watched(progress))
    return replace(outcome, seconds=time.monotonic() - started)


def _held(job: HealJob, held: Held, progress: Progress) -> Outcome:
    progress(f"loading {job.subject.file}")
    loaded = reopen(job.subject)
    loaded = replace(loaded, container=replace(loaded.container, held=held))
    progress(f"loading {job.against}")
    before = reopen(replace(job.subject, file=job.against))
    original = before.model
    records = loaded.receipt.sites if loaded.receipt is not None else ()
    sites = sites_to_heal(original, loaded.model, records)
    progress("looking for an input that fits")
    first = first_pass(loaded, job.subject)
    healed, copy = _healed(job, loaded, before, sites, first, progress)
    writer = Writer(_as_swap(job, loaded), loaded, progress, unread=False)
    built = tuple(_built(loaded, path, copy, sites) for path in healed.changed)
    prepared = Prepared((Case(first.calls[0]),), (), Plan(()), built, unreal=False, seed=0)
    params = count_params(loaded.model)
    outcome = Outcome(
        command="heal",
        checkpoint=str(job.subject.file),
        recipe="",
        sites=_sites(prepared, sites),
        params_before=params,
        params_after=params,
        notes=(*ending_note(loaded.container.format, job.subject.file, job.out),),
        stamps=held.stamps,
        healing=healed.healing,
    )
    with applied(loaded.model, prepared.placements):
        outcome = writer.finish(outcome, prepared)
    if outcome.ledger is not None:
        outcome = replace(outcome, ledger=outcome.ledger.with_mapped(writer.mapped(prepared)))
    if job.out is not None and not healed.healing.interrupted:
        resume_file(job.out).unlink(missing_ok=True)
    return outcome


def _healed(
    job: HealJob,
    loaded: Loaded,
    before: Loaded,
    sites: Sequence[HealedSite],
    first: Found,
    progress: Progress,
) -> tuple[Healed, nn.Module]:
    """Return the result, and the healed copy of the model."""
    request = job.request
    taker = Taker.of(before, first.calls[0])
    wanted = DataRequest(request.samples, request.seed, told_size(job.subject.inputs))
    samples = open_samples(job.data, taker, wanted, progress)
    old = running(before.model, request)
    copy = working_copy(loaded.model, (site.learned for site in sites), request)
    models = Models(old, copy, samples, request.batch)
    give = inheriting(old, Case(first.calls[0]))
    kept = _kept(job)
    healer = Healer(models, moved(sites, old, copy), request, give, progress, kept)
    return healer.run(), copy


def _kept(job: HealJob) -> ResumeFile:
    """Return the file that keeps the state of the run, with what it holds of an earlier one."""
    wishes = {name: _plain(value) for name, value in asdict(job.request).items()}
    depends = {"file": str(job.subject.file), "original": str(job.against), "data": job.data}
    file = resume_file(job.out) if job.out is not None else None
    if job.resume and file is not None:
        return ResumeFile.read(file, {**depends, **wishes})
    return ResumeFile(file, {**depends, **wishes})


def _plain(value: Any) -> str | int | float | bool | None:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def resume_file(out: Path) -> Path:
    """Return the place of the file from which a run that was broken off goes on."""
    return out.with_name(f"{out.name}.resume")


def _as_swap(job: HealJob, loaded: Loaded) -> Job:
    """Return the job of the swap that the file records, to be written again."""
    text = loaded.container.recipe
    recipe = embedded_recipe(text, str(job.subject.file)) if text else _NO_RECIPE
    subject: Subject = replace(job.subject, inputs=())
    return Job(subject, recipe, job.out, job.force)


_NO_RECIPE = Recipe.model_construct(version=1)


def _built(loaded: Loaded, path: str, healed: nn.Module, sites: Sequence[HealedSite]) -> Built:
    """Return a module of the file with the values of the healed copy."""
    own = module_at(loaded.model, path)
    made = taken_back(module_at(healed, path), own)
    site = next((one for one in sites if one.paths[0] == path), None)
    paths = site.paths if site is not None else (path,)
    elements = sum(parameter.numel() for parameter in own.parameters())
    old = class_name(own if site is None else site.old)
    place = Site(path, old, aliases=paths[1:], params=elements)
    blueprint = _blueprint(own, site)
    rule = Rule.model_validate({"match": "**", "with": blueprint.module, "start": "preserve"})
    step = Step(rule, ("replace", 0), "", (place,))
    names = {name: f"{path}.{name}" for name in tensors_of(made)}
    started = Started("healed", names)
    return Built(step, (place,), blueprint, made, started=started, there=True)


def _blueprint(module: nn.Module, site: HealedSite | None) -> Blueprint:
    """Return what a module of the file was made of, or its class alone."""
    if site is not None and site.record is not None:
        return site.record.blueprint()
    cls = type(site.inner if site is not None else module)
    return Blueprint(f"{cls.__module__}:{cls.__qualname__}", {})


def _sites(prepared: Prepared, sites: Sequence[HealedSite]) -> tuple[SiteOutcome, ...]:
    """Return the records of the new modules, without the norms behind them."""
    own = {site.paths[0] for site in sites}
    found = site_outcomes(prepared)
    return tuple(replace(one, start="healed") for one in found if one.new_path in own)

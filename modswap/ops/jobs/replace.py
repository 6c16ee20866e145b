"""The main job and its dry run: a file in, a changed file out, with proof."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from modswap.core.asked.job import Job, Subject
from modswap.core.asked.used_paths import healing_files, paths_read
from modswap.core.errors import ModswapError
from modswap.core.kept.outcome import Outcome, SiteOutcome
from modswap.core.progress import Progress, silent
from modswap.io.formats.choice import ending_note, has_known_ending
from modswap.io.formats.target import refuse_target
from modswap.io.raw.held import Held, holding
from modswap.live_values import named_tensors, nbytes_of
from modswap.ops.build.starts.start import Starts
from modswap.ops.examine.bench import Bench, examined
from modswap.ops.first_input.find import Settled, settled
from modswap.ops.load.allowed import with_recipe
from modswap.ops.load.model import Loaded
from modswap.ops.measure.memory import (
    MAX_READ_BYTES,
    Bound,
    bounds_of,
    check_memory,
    check_swapped_memory,
)
from modswap.ops.measure.model_view import timed, viewed_after, viewed_before
from modswap.ops.measure.site_routing import pictured, site_routings
from modswap.ops.outcomes import count_params, failure, site_outcomes, swap_notes
from modswap.ops.reopen import reopen
from modswap.ops.run.devices import device_asked
from modswap.ops.run.inputs import calls_of, cases_of
from modswap.ops.run.without_compiler import without_compiler
from modswap.ops.swap import Making, Prepared, Verified, prepare, verified
from modswap.ops.write.writer import Writer


def replace_file(job: Job, progress: Progress = silent) -> Outcome:
    """Swap modules in a file: plan, swap, verify, write, prove; without `out` nothing is written.

    Raises:
        ModswapError: If the swap cannot be prepared. An error of the verification or the writing
            is the outcome's `error`.
    """
    return _run(job, "replace", progress, unreal=False)


def check_file(job: Job, progress: Progress = silent) -> Outcome:
    """Do all steps of `replace_file` except writing; read no weights unless a device is named.

    Raises:
        ModswapError: As `replace_file`, or if there is no such device.
    """
    on_shapes = job.device in {"", "meta"}
    if not on_shapes:
        device_asked(job.device)
    return _run(replace(job, out=None), "check", progress, unreal=on_shapes)


def _run(job: Job, command: str, progress: Progress, *, unreal: bool) -> Outcome:
    started = time.monotonic()
    subject = with_recipe(job.subject, job.recipe)
    if job.out is not None:
        reads = (*paths_read(subject, job.recipe), *healing_files(job.heal))
        refuse_target(subject.file, job.out, force=job.force, reads=reads)
    if job.heal:
        from modswap.ops.jobs.heal import look_at_data  # it takes a while, and few heal

        look_at_data(job.heal)
    with holding(subject.file) as held, without_compiler():
        outcome = _held(replace(job, subject=subject), command, held, progress, unreal=unreal)
    return replace(outcome, seconds=time.monotonic() - started)


def _held(job: Job, command: str, held: Held, progress: Progress, *, unreal: bool) -> Outcome:
    subject, progress = job.subject, held.watched(progress)
    progress(f"loading {subject.file}")
    loaded = reopen(_bounded(subject, job.out, unreal=unreal), job.recipe)
    loaded = replace(loaded, container=replace(loaded.container, held=held))
    given = settled(job, loaded, progress)
    job = given.job
    writer = Writer(job, loaded, progress, unread=unreal)
    large = () if unreal else _too_large(loaded)
    if job.device and not (unreal or large):
        loaded.model.to(device_asked(job.device))
    bounds = bounds_of(job, unreal=unreal or bool(large))
    view = viewed_before(loaded.model) if job.view else None
    prepared = _prepared(writer, given, bounds, unreal=unreal or bool(large))
    params = count_params(loaded.model)
    ending = ending_note(loaded.container.format, subject.file, job.out)
    outcome = Outcome(
        command=command,
        checkpoint=str(job.subject.file),
        recipe=job.recipe.source.name,
        plan=prepared.plan,
        sites=_with_places(site_outcomes(prepared), loaded),
        params_before=params,
        params_after=params,
        notes=(*loaded.container.notes, *ending, *large, *given.notes, *prepared.notes),
        found_input=given.found,
        stamps=held.stamps,
        recipe_sha256=job.recipe.source.digest,
        recipe_text=job.recipe.source.text,
        view=view,
    )
    return _swapped(writer, prepared, outcome, bounds)


def _with_places(sites: tuple[SiteOutcome, ...], loaded: Loaded) -> tuple[SiteOutcome, ...]:
    """Return the sites with notes on the names of their tensors in the file, if they are others."""
    places = loaded.stored.places if loaded.stored is not None else {}
    return tuple(
        replace(site, notes=(*site.notes, f"in the file: {', '.join(places[site.path])}"))
        if site.path in places
        else site
        for site in sites
    )


def _prepared(writer: Writer, given: Settled, bounds: Sequence[Bound], *, unreal: bool) -> Prepared:
    """Run the reference passes, if they fit into memory, and build the new modules."""
    model, recipe, calls = writer.loaded.model, writer.job.recipe, given.calls
    first = cases_of(calls or calls_of(recipe.inputs), recipe.verify)
    for case in first[:1]:
        pictured(case.call, writer.job.image)  # a file that is no picture is refused at once
    check_memory(model, first, bounds, seed=recipe.seed)
    starts = Starts(values=not writer.unread, policy=writer.job.subject.policy)
    making = Making(starts=starts)
    return prepare(model, recipe, calls, unreal=unreal, progress=writer.progress, making=making)


def _swapped(
    writer: Writer, prepared: Prepared, outcome: Outcome, bounds: Sequence[Bound]
) -> Outcome:
    """Swap, verify, examine and write; an error that stops it is the outcome's `error`."""
    job, loaded = writer.job, writer.loaded
    try:
        warnings = check_swapped_memory(loaded.model, prepared, bounds)
        outcome = replace(outcome, notes=(*outcome.notes, *warnings))
        write = partial(writer.write_copy, outcome=outcome, prepared=prepared)
        with verified(loaded.model, prepared, writer.progress) as standing:
            bench = Bench(
                loaded.model,
                prepared,
                standing.after,
                standing.old,
                job.recipe,
                job.subject,
                thorough=job.thorough or job.recipe.verify.thorough,
                fast=job.fast,
                keys=_keys(loaded),
                write=None if job.out is None else write,
                out=job.out,
                progress=writer.progress,
            )
            verdict = examined(standing.verdict, bench)
            outcome = replace(
                _viewed(outcome, bench, standing, job.image),
                verdict=verdict,
                params_after=count_params(loaded.model),
                notes=(*outcome.notes, *swap_notes(verdict, prepared, outcome.sites)),
            )
            if not verdict.ok:
                raise failure(verdict)
            if job.heal:
                outcome, prepared = _healed(writer, prepared, outcome)
            outcome = writer.finish(outcome, prepared)
            if outcome.ledger is not None:
                ledger = outcome.ledger.with_mapped(writer.mapped(prepared))
                outcome = replace(outcome, ledger=ledger)
        if job.out is None and loaded.container.held is not None:
            loaded.container.held.refuse_change()
    except ModswapError as error:
        return replace(outcome, error=error)
    return outcome


def _healed(writer: Writer, prepared: Prepared, outcome: Outcome) -> tuple[Outcome, Prepared]:
    from modswap.ops.jobs.heal import healed_swap

    return healed_swap(writer.job, writer.loaded, prepared, outcome, writer.progress)


def _viewed(outcome: Outcome, bench: Bench, standing: Verified, image: Path | None) -> Outcome:
    """Return the outcome with the view of the swapped model, if a view was asked for."""
    if outcome.view is None:
        return outcome
    prepared, model = bench.prepared, bench.model
    paths = [built.sites[0].path for built in prepared.built]
    passes = prepared.before[0].seen, standing.after[0].seen
    view = viewed_after(outcome.view, model, passes, paths)
    if standing.verdict.ok:
        view = timed(view, model, bench.original, prepared.cases[0], unreal=prepared.unreal)
        if not prepared.unreal:
            call = pictured(prepared.cases[0].call, image)
            view = replace(view, routings=site_routings(model, paths, call))
    return replace(outcome, view=view)


def _keys(loaded: Loaded) -> tuple[str, ...]:
    """Return the keys of a file's outermost mapping."""
    payload = loaded.container.payload
    names = payload if isinstance(payload, Mapping) else ()
    return tuple(name for name in names if isinstance(name, str))


def _bounded(subject: Subject, out: Path | None, *, unreal: bool) -> Subject:
    """Return the subject with a bound on the weights to read where the file cannot be mapped."""
    if out is not None and has_known_ending(out):
        return subject  # to write another format, all weights are read
    return replace(subject, policy=replace(subject.policy, most=0 if unreal else MAX_READ_BYTES))


def _too_large(loaded: Loaded) -> tuple[str, ...]:
    """Return a note if a model is too large to run on its weights, else nothing."""
    held = {id(t): nbytes_of(t) for t in named_tensors(loaded.model).values()}
    nbytes = sum(held.values())
    if nbytes <= MAX_READ_BYTES:
        return ()
    return (f"the passes ran on shapes alone: reading {nbytes / 2**30:.1f} GiB would take memory",)

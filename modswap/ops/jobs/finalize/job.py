"""End what `start: preserve` began: the gates of new modules, and the old modules behind them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from modswap.core.asked.job import Job, Rework
from modswap.core.asked.patterns import pattern_of
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.used_paths import paths_read
from modswap.core.errors import ShapeError, together
from modswap.core.kept.outcome import Outcome
from modswap.core.kept.receipt import SiteRecord
from modswap.core.progress import Progress, silent
from modswap.io.formats.choice import ending_note
from modswap.io.formats.target import refuse_target
from modswap.io.raw.held import Held, holding
from modswap.io.recipe.embedded import embedded_recipe
from modswap.ops.apply import applied, temporarily
from modswap.ops.first_input.find import settled
from modswap.ops.jobs.finalize.copies import FileCopy, copies_of, refuse_unfinished
from modswap.ops.jobs.finalize.endings import ended, run_or_refused, untied, with_layers_folded
from modswap.ops.load.model import Loaded
from modswap.ops.measure.drift import drift_of
from modswap.ops.outcomes import count_params, site_outcomes
from modswap.ops.reopen import reopen
from modswap.ops.run.forward import half_of
from modswap.ops.run.inputs import calls_of, cases_of
from modswap.ops.swap import Prepared
from modswap.ops.write.writer import Writer

MAX_DRIFT = 1e-5  # of the outputs, where every gate is 1


def finalize_file(job: Rework, progress: Progress = silent) -> Outcome:
    """Put faded-in modules in the place of the old ones, and fold the gates of inserted ones.

    Without `out` nothing is written.

    Raises:
        UsageError: If no module in the file has a gate.
        ShapeError: If a gate is not 1, unless the job takes it as 1, no gate can be folded, or
            the outputs would move.
        ModswapError: If the file cannot be read or written.
    """
    started = time.monotonic()
    if job.out is not None:
        reads = paths_read(job.subject)
        refuse_target(job.subject.file, job.out, force=job.force, reads=reads)
    with holding(job.subject.file) as held:
        outcome = _held(job, held, held.watched(progress))
    return replace(outcome, seconds=time.monotonic() - started)


def _held(job: Rework, held: Held, progress: Progress) -> Outcome:
    progress(f"loading {job.subject.file}")
    loaded = reopen(job.subject)
    loaded = replace(loaded, container=replace(loaded.container, held=held))
    where = str(job.subject.file)
    copies = copies_of(loaded, where, fold=job.fold)
    refuse_unfinished(copies, job)
    recipe, before = _recipe(loaded, copies[0].records, where), count_params(loaded.model)
    given = settled(Job(job.subject, recipe, job.out, job.force), loaded, progress)
    writer = Writer(given.job, loaded, progress, unread=False)
    modes = ("eval",) if job.fold else given.job.recipe.verify.modes  # norms are folded for it
    settings = given.job.recipe.verify.model_copy(update={"dtypes": ("float32",), "modes": modes})
    cases = cases_of(given.calls or calls_of(given.job.recipe.inputs), settings)
    every, staying = ended(copies, cases, recipe.seed, job)
    if job.fold:
        progress("folding layers")
        every, unfolded = with_layers_folded(copies, every, where)
        staying = (*staying, *unfolded)
    _refuse_nothing(every[0], staying, where)
    progress("measuring the drift")
    moved = [_drift(*pair, job) for pair in zip(copies, every, strict=True)]
    for index, one in enumerate(every[1:], 1):
        writer.renewed |= {(index, made.sites[0].path): made.module for made in one.built}
    prepared = every[0]
    notes = (
        *(*moved, *untied(loaded.model, prepared.built)),
        *(f"{error.where} stays as it is: {error.what}" for error in staying),
        *ending_note(loaded.container.format, job.subject.file, job.out),
        *given.notes,
    )
    with applied(loaded.model, prepared.placements):
        outcome = _outcome(where, prepared, before, count_params(loaded.model))
        found = given.found
        outcome = replace(outcome, notes=notes, found_input=found, stamps=held.stamps)
        outcome = writer.finish(outcome, prepared)
    if outcome.ledger is not None:
        outcome = replace(outcome, ledger=outcome.ledger.with_mapped(writer.mapped(prepared)))
    return outcome


def _outcome(where: str, prepared: Prepared, before: int, after: int) -> Outcome:
    return Outcome(
        command="finalize",
        checkpoint=where,
        recipe="",
        sites=site_outcomes(prepared),
        params_before=before,
        params_after=after,
    )


def _recipe(loaded: Loaded, records: Sequence[SiteRecord], where: str) -> Recipe:
    """Return the recipe in a file, or one that puts modules where they are if there is none."""
    if loaded.container.recipe:
        return embedded_recipe(loaded.container.recipe, where)
    rules: dict[str, list[dict[str, str]]] = {"replace": [], "insert": []}
    for record in records:
        if record.joint is None:
            path = pattern_of(record.paths[0])
            rules["replace"].append({"match": path, "with": record.module})
            continue
        place, path = record.joint.place, pattern_of(record.paths[0].rpartition(".")[0])
        if place == "instead":
            rule = {"match": path, "with": record.module, "start": "preserve"}
            rules["replace"].append(rule)
        else:
            rules["insert"].append({place: path, "with": record.module})
    return Recipe.model_validate(
        {"version": 1, **{key: rule for key, rule in rules.items() if rule}}
    )


def _drift(one: FileCopy, prepared: Prepared, job: Rework) -> str:
    """Return in words how far the outputs moved; refuse if that is much and was not asked for."""
    model = one.loaded.model
    with applied(model, prepared.placements), run_or_refused(f"{job.subject.file}{one.key}"):
        drift = drift_of(model, lambda: _original(one), prepared.cases, prepared.seed)
    half = half_of(model)
    most = MAX_DRIFT if half is None else torch.finfo(half).eps
    if not job.at_one and not drift.relative <= most:
        what = f"{drift.text}, more than {most:g}"
        fix = "leave out `--fold`, or add `--at 1` to accept it"
        fix = fix if job.fold else "add `--at 1` to accept it"
        raise ShapeError(what, f"{job.subject.file}{one.key}", fix)
    return f"{one.key.strip()}: {drift.text}" if one.key else drift.text


@contextmanager
def _original(one: FileCopy) -> Iterator[nn.Module]:
    with temporarily(one.loaded.model, one.placements):
        yield one.loaded.model


def _refuse_nothing(prepared: Prepared, staying: Sequence[ShapeError], where: str) -> None:
    """Refuse a file in which every module stays as it is."""
    what = "no module in it has a gate, and no layer of its new modules can be folded"
    if not prepared.built:
        raise together(staying or [ShapeError(what, where, "leave it so")])

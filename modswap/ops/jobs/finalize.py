"""End what `start: preserve` began: the gates of new modules, and the old modules behind them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

from torch import nn

from modswap.core.asked.job import Job, Rework
from modswap.core.asked.patterns import pattern_of
from modswap.core.asked.recipe import Recipe
from modswap.core.asked.rules.rule import Rule
from modswap.core.asked.used_paths import paths_read
from modswap.core.decided.plan import Plan, Step
from modswap.core.decided.started import Started
from modswap.core.errors import CheckpointError, ShapeError, UsageError, together
from modswap.core.kept.outcome import Outcome
from modswap.core.kept.receipt import SiteRecord
from modswap.core.progress import Progress, silent
from modswap.core.seen.joint import Joint
from modswap.core.seen.site import Site
from modswap.io.formats.choice import ending_note, format_named, target_format
from modswap.io.formats.target import refuse_target
from modswap.io.raw.held import Held, holding
from modswap.io.recipe.embedded import embedded_recipe
from modswap.live_values import module_paths
from modswap.nn.adapters import SiteAdapter
from modswap.nn.inserted_site import inserted_names, without_others
from modswap.nn.insertion import Insertion
from modswap.ops.apply import Placement, applied, module_at, temporarily
from modswap.ops.build.fit import Built
from modswap.ops.build.gate_folding import Folded, recorded, without_gate
from modswap.ops.build.take_over import carry_over, host_attributes
from modswap.ops.first_input.find import settled
from modswap.ops.load.model import Loaded
from modswap.ops.measure.drift import drift_of
from modswap.ops.outcomes import count_params, site_outcomes
from modswap.ops.reopen import reopen
from modswap.ops.run.describe import class_name
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case, calls_of, cases_of
from modswap.ops.swap import Prepared
from modswap.ops.write.slot_models import key_of, models_of_slots
from modswap.ops.write.writer import Writer

MAX_DRIFT = 1e-5  # of the outputs, where every gate is 1


@dataclass(frozen=True, slots=True)
class _Beside:
    """A module with a gate beside one that stays."""

    record: SiteRecord
    joint: Joint
    module: Insertion


@dataclass(frozen=True, slots=True)
class _Fading:
    """A module that fades in for an old one, with the paths of both, and its gates' range."""

    record: SiteRecord
    module: Insertion
    site: nn.Module
    paths: tuple[str, ...]
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class _Copy:
    """A model of the file and its modules with gates; `key` says where it is, if not first."""

    loaded: Loaded
    key: str
    ended: tuple[_Fading, ...]
    beside: tuple[_Beside, ...]

    @property
    def records(self) -> list[SiteRecord]:
        """Return the records of all modules with gates."""
        return [*(one.record for one in self.ended), *(one.record for one in self.beside)]

    @property
    def placements(self) -> list[Placement]:
        """Return the modules as they were, with their paths."""
        olds: list[Placement] = [(one.paths, one.site) for one in self.ended]
        return [*olds, *((one.record.paths, one.module) for one in self.beside)]


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
    copies = _copies(loaded, where)
    _refuse(copies, job)
    recipe = _recipe(loaded, copies[0].records, where)
    given = settled(Job(job.subject, recipe, job.out, job.force), loaded, progress)
    writer = Writer(given.job, loaded, progress, unread=False)
    settings = given.job.recipe.verify.model_copy(update={"dtypes": ("float32",)})
    cases = cases_of(given.calls or calls_of(given.job.recipe.inputs), settings)
    every, staying = _ends(copies, cases, recipe.seed, job)
    progress("measuring the drift")
    moved = [_drift(*pair, job) for pair in zip(copies, every, strict=True)]
    for index, one in enumerate(every[1:], 1):
        writer.renewed |= {(index, made.sites[0].path): made.module for made in one.built}
    prepared = every[0]
    before = count_params(loaded.model)
    with applied(loaded.model, prepared.placements):
        outcome = Outcome(
            command="finalize",
            checkpoint=where,
            recipe="",
            sites=site_outcomes(prepared),
            params_before=before,
            params_after=count_params(loaded.model),
            notes=(
                *moved,
                *(f"{error.where} stays as it is: {error.what}" for error in staying),
                *ending_note(loaded.container.format, job.subject.file, job.out),
                *given.notes,
            ),
            found_input=given.found,
            stamps=held.stamps,
        )
        outcome = writer.finish(outcome, prepared)
    if outcome.ledger is not None:
        outcome = replace(outcome, ledger=outcome.ledger.with_mapped(writer.mapped(prepared)))
    return outcome


def _copies(loaded: Loaded, where: str) -> list[_Copy]:
    """Return the models of a file, each with its own gates, the loaded one first."""
    keys = ("", *(f" under {key_of(slot)!r}" for slot in loaded.container.slots[1:]))
    return [
        _Copy(one, key, tuple(_fading(one, where)), tuple(_beside(one, where)))
        for one, key in zip(models_of_slots(loaded), keys, strict=True)
    ]


def _recipe(loaded: Loaded, records: Sequence[SiteRecord], where: str) -> Recipe:
    """Return the recipe in a file, or one that puts modules where they are if there is none."""
    if loaded.container.recipe:
        return embedded_recipe(loaded.container.recipe, where)
    rules: dict[str, list[dict[str, str]]] = {"replace": [], "insert": []}
    for record in records:
        place = record.joint.place if record.joint is not None else "instead"
        path = pattern_of(record.paths[0].rpartition(".")[0])
        if place == "instead":
            rule = {"match": path, "with": record.module, "start": "preserve"}
            rules["replace"].append(rule)
        else:
            rules["insert"].append({place: path, "with": record.module})
    return Recipe.model_validate(
        {"version": 1, **{key: rule for key, rule in rules.items() if rule}}
    )


def _drift(one: _Copy, prepared: Prepared, job: Rework) -> str:
    """Return in words how far the outputs moved; refuse if that is much and was not asked for."""
    model = one.loaded.model
    with applied(model, prepared.placements):
        drift = drift_of(model, lambda: _original(one), prepared.cases, prepared.seed)
    if not job.at_one and not drift.relative <= MAX_DRIFT:
        what = f"{drift.text}, more than {MAX_DRIFT:g}"
        raise ShapeError(what, f"{job.subject.file}{one.key}", "add `--at 1` to accept it")
    return f"{one.key.strip()}: {drift.text}" if one.key else drift.text


@contextmanager
def _original(one: _Copy) -> Iterator[nn.Module]:
    with temporarily(one.loaded.model, one.placements):
        yield one.loaded.model


def _gates(loaded: Loaded, where: str) -> Iterator[tuple[SiteRecord, Joint, Insertion]]:
    """Yield every module with a gate: those of the file's receipt, then others in the model."""
    known: set[str] = set()
    for record in loaded.receipt.sites if loaded.receipt is not None else ():
        if record.joint is None or not record.joint.has_gate:
            continue
        module = module_at(loaded.model, record.paths[0])
        if not isinstance(module, Insertion) or module.gate is None:
            what = f"its receipt and its module {record.paths[0]!r} disagree"
            raise CheckpointError(what, where, "write the file again with `modswap replace`")
        known.update(record.paths)
        yield record, record.joint, module
    yield from (one for one in _unrecorded(loaded.model) if known.isdisjoint(one[0].paths))


def _unrecorded(model: nn.Module) -> Iterator[tuple[SiteRecord, Joint, Insertion]]:
    """Yield the modules with a gate of a model that a training script saved, without a receipt."""
    found: dict[int, tuple[Insertion, list[str]]] = {}
    for place in module_paths(model):
        for name in inserted_names(place.module):
            module = module_at(place.module, name)
            if isinstance(module, Insertion) and module.gate is not None:
                path = f"{place.path}.{name}" if place.path else name
                found.setdefault(id(module), (module, []))[1].append(path)
    for module, paths in found.values():
        channels = cast("nn.Parameter", module.gate).numel()
        ends = (module.source, module.target)
        joint = Joint(module.place, module.form, channels, module.axes, *ends)
        layer = module.module
        cls = type(layer.module if isinstance(layer, SiteAdapter) else layer)
        name = f"{cls.__module__}:{cls.__qualname__}"
        yield SiteRecord(paths=tuple(paths), module=name, args={}, joint=joint), joint, module


def _fading(loaded: Loaded, where: str) -> Iterator[_Fading]:
    """Yield every module that fades in for an old one."""
    for record, joint, module in _gates(loaded, where):
        if joint.place == "instead":
            paths = tuple(path.rpartition(".")[0] for path in record.paths)
            least, most = _range(module)
            yield _Fading(record, module, module_at(loaded.model, paths[0]), paths, least, most)


def _beside(loaded: Loaded, where: str) -> Iterator[_Beside]:
    """Yield every module with a gate that stays beside another one."""
    for record, joint, module in _gates(loaded, where):
        if joint.place != "instead":
            yield _Beside(record, joint, module)


def _range(module: Insertion) -> tuple[float, float]:
    """Return the least and the largest gate."""
    gate = cast("nn.Parameter", module.gate).detach()
    return float(gate.min()), float(gate.max())


def _refuse(copies: Sequence[_Copy], job: Rework) -> None:
    """Refuse a file without a module that has a gate, or with one that has not come to its end."""
    where = str(job.subject.file)
    first = copies[0]
    if not first.records:
        what = "no module in it has a gate, by which it fades in or is added"
        fix = "name a file in which `start: preserve` put a module; one of weights alone needs the "
        fix += "receipt that `modswap.save` writes"
        raise UsageError(what, where, fix)
    for other in copies[1:]:
        if {r.paths for r in other.records} != {r.paths for r in first.records}:
            what = f"the model{other.key} has other modules with gates than the first one"
            raise CheckpointError(what, where, "save the one that you want by itself")
    _refuse_weights(first.records, first.loaded, job)
    errors = [
        error for copy in copies for one in copy.ended for error in _unfinished(one, copy, job)
    ]
    if errors:
        raise together(errors)


def _refuse_weights(records: Sequence[SiteRecord], loaded: Loaded, job: Rework) -> None:
    """Refuse a file of weights alone for modules of which no receipt has the arguments."""
    own = format_named(loaded.container.format)
    if job.out is None or target_format(own.name, job.out) is own:
        return
    for record in records:
        if record not in (loaded.receipt.sites if loaded.receipt is not None else ()):
            what = f"no receipt says with which arguments {record.paths[0]!r} was made, so that "
            what += "weights alone could not be loaded again"
            raise UsageError(what, str(job.out), "name it as the input is named, such as out.pt")


def _unfinished(one: _Fading, copy: _Copy, job: Rework) -> Iterator[ShapeError]:
    path = f"{one.paths[0]}{copy.key}"
    if len(inserted_names(one.site)) > 1:
        what = "another module was put in beside it, which would go with the old one"
        yield ShapeError(what, path, "take that out first")
    if not job.at_one and not one.least == one.most == 1:
        ends = dict.fromkeys((f"{one.least:.4g}", f"{one.most:.4g}"))
        what = f"the gate of the new module is {' to '.join(ends)}, not 1"
        yield ShapeError(what, path, "train on, or add `--at 1` to take it as 1")


def _built(one: _Fading) -> Built:
    """Return the new module, to be put in the place of the old one."""
    layer, old = one.module.module, without_others(one.site)
    carry_over(layer, host_attributes(old))
    rule = Rule.model_validate({"match": "**", "with": one.record.module, "start": "preserve"})
    elements = sum(parameter.numel() for parameter in old.parameters())
    site = Site(one.paths[0], class_name(old), aliases=one.paths[1:], params=elements)
    names = {name: f"{one.record.paths[0]}.module.{name}" for name in layer.state_dict()}
    step = Step(rule, ("replace", 0), "", (site,))
    blueprint = replace(one.record.blueprint(), joint=None)
    return Built(step, (site,), blueprint, layer, (), Started("preserve", names))


def _ends(
    copies: Sequence[_Copy], cases: tuple[Case, ...], seed: int, job: Rework
) -> tuple[list[Prepared], tuple[ShapeError, ...]]:
    """Return for each copy the modules that do without their gates, and an error for others.

    A module ends in the same form in all copies, or stays as it is in all of them.

    Raises:
        ShapeError: If every module has to stay.
    """
    folded, staying = zip(*(_folded(copy, cases[0], job) for copy in copies), strict=True)
    forms = [{one.sites[0].path: one.blueprint.joint for one in built} for built in folded]
    same = {path for path, joint in forms[0].items() if all(f.get(path) == joint for f in forms)}
    errors = tuple(error for found in staying for error in found)
    if not same and not copies[0].ended:
        raise together(errors)
    prepared = []
    for copy, inserted in zip(copies, folded, strict=True):
        kept = (one for one in inserted if one.sites[0].path in same)
        built = (*map(_built, copy.ended), *kept)
        prepared.append(Prepared(cases, (), Plan(()), built, unreal=False, seed=seed))
    return prepared, errors


def _folded(
    copy: _Copy, case: Case, job: Rework
) -> tuple[tuple[Built, ...], tuple[ShapeError, ...]]:
    """Return the modules that do without their gates, and an error for each that does not."""
    built, staying, loaded, beside = [], [], copy.loaded, copy.beside
    inner = {one.record.paths[0]: one.module for one in beside}
    with recorded(inner) as given, ready(loaded.model, case, 0) as (args, kwargs, dtype):
        if beside:
            run_model(loaded.model, args, kwargs, dtype=dtype, stand_ins=None)
    for one in beside:
        path = one.record.paths[0]
        call = given.get(path)
        made = without_gate(one.module, one.joint, call, at_one=job.at_one) if call else None
        if made is None:
            staying.append(_stays(one, copy, reached=call is not None))
        else:
            built.append(_built_beside(loaded, one, made))
    return tuple(built), tuple(staying)


def _stays(one: _Beside, copy: _Copy, *, reached: bool) -> ShapeError:
    """Return the reason for which a module keeps its gate."""
    least, most = _range(one.module)
    gates = f"its gate is {_between(least, most)}"
    if not reached:
        what = "the dummy input does not reach it"
    elif least == most == 0:
        what = "its gate is 0 still, so that it changes nothing"
    elif one.joint.form == "scale":
        what = f"{gates}, and it multiplies its input, so that no layer can hold it"
    else:
        what = f"{gates}, and no layer at its end can hold it"
    fix = "take it out by `modswap revert`" if most == least == 0 else "train on, or leave it so"
    return ShapeError(what, f"{one.record.paths[0]}{copy.key}", fix)


def _between(least: float, most: float) -> str:
    return f"{least:.4g}" + (f" to {most:.4g}" if least < most else "")


def _built_beside(loaded: Loaded, one: _Beside, made: Folded) -> Built:
    """Return an inserted module without its gate, to be put in the place of the one with it."""
    path = one.record.paths[0]
    there = module_at(loaded.model, path.rpartition(".")[0])
    rule = Rule.model_validate({"match": "**", "with": one.record.module, "start": "preserve"})
    joint = replace(one.joint, form=made.module.form)
    beside = Site(path.rpartition(".")[0], class_name(there))
    elements = sum(parameter.numel() for parameter in one.module.parameters())
    site = Site(path, class_name(one.module), one.record.paths[1:], params=elements)
    site = replace(site, beside=beside, joint=joint)
    names = {name: f"{path}.{name}" for name in made.module.state_dict()}
    end = "went into its weights" if made.layer is not None else "was left out"
    end = f"{end} at {made.layer}" if made.layer else end
    note = f"its gate, {_between(*_range(one.module))}, {end}"
    blueprint = replace(one.record.blueprint(), joint=joint)
    step = Step(rule, ("replace", 0), "", (site,))
    return Built(step, (site,), blueprint, made.module, (note,), Started("preserve", names))

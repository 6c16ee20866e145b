"""The new modules of a model in the form that they have without gates, and with layers folded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from modswap.core.asked.job import Rework
from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.plan import Plan, Step
from modswap.core.decided.started import Started
from modswap.core.errors import CheckpointError, ModswapError, ShapeError
from modswap.core.seen.site import Site
from modswap.live_values import module_paths, named_tensors
from modswap.nn.inserted_site import without_others
from modswap.ops.apply import module_at
from modswap.ops.build.fit import Built
from modswap.ops.build.folding.built import ended_and_folded, folded_alone
from modswap.ops.build.folding.flow import recorded
from modswap.ops.build.folding.new_modules import fold_modules
from modswap.ops.build.gate_folding import Folded, without_gate
from modswap.ops.build.gates import gate_range
from modswap.ops.build.take_over import carry_over_from
from modswap.ops.jobs.finalize.copies import BesideModule, FadingModule, FileCopy
from modswap.ops.load.model import Loaded
from modswap.ops.run.describe import class_name
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case
from modswap.ops.swap import Prepared


def _built(one: FadingModule) -> Built:
    """Return the new module, to be put in the place of the old one."""
    layer, old = one.module.module, without_others(one.site)
    carry_over_from(old, layer)
    rule = Rule.model_validate({"match": "**", "with": one.record.module, "start": "preserve"})
    elements = sum(parameter.numel() for parameter in old.parameters())
    site = Site(one.paths[0], class_name(old), aliases=one.paths[1:], params=elements)
    names = {name: f"{one.record.paths[0]}.module.{name}" for name in layer.state_dict()}
    step = Step(rule, ("replace", 0), "", (site,))
    blueprint = replace(one.record.blueprint(), joint=None)
    return Built(step, (site,), blueprint, layer, (), Started("preserve", names))


def ended(
    copies: Sequence[FileCopy], cases: tuple[Case, ...], seed: int, job: Rework
) -> tuple[list[Prepared], tuple[ShapeError, ...]]:
    """Return for each copy the modules that do without their gates, and an error for others.

    A module ends in the same form in all copies, or stays as it is in all of them.
    """
    folded, staying = zip(*(_folded(copy, cases[0], job) for copy in copies), strict=True)
    forms = [{one.sites[0].path: one.blueprint.joint for one in built} for built in folded]
    same = {path for path, joint in forms[0].items() if all(f.get(path) == joint for f in forms)}
    errors = tuple(error for found in staying for error in found)
    prepared = []
    for copy, inserted in zip(copies, folded, strict=True):
        kept = (one for one in inserted if one.sites[0].path in same)
        built = (*map(_built, copy.ended), *kept)
        prepared.append(Prepared(cases, (), Plan(()), built, unreal=False, seed=seed))
    return prepared, errors


def with_layers_folded(
    copies: Sequence[FileCopy], every: Sequence[Prepared], where: str
) -> tuple[list[Prepared], tuple[ShapeError, ...]]:
    """Return for each copy the new modules with their layers folded, and an error for others.

    Raises:
        CheckpointError: If a copy does not run on the dummy input.
    """
    pairs = [(copy, prepared) for copy, prepared in zip(copies, every, strict=True)]
    news = [copy.new_modules(prepared.built) for copy, prepared in pairs]
    records = copies[0].records
    given = []
    for copy, new in zip(copies, news, strict=True):
        with run_or_refused(f"{where}{copy.key}"):
            given.append(new.inputs(every[0].cases[0]))
    folded, errors = fold_modules(news, records, given)
    ends = {one.record.paths[0]: one.paths[0] for one in copies[0].ended}
    made = []
    for (copy, prepared), found_in in zip(pairs, folded, strict=True):
        built = {one.sites[0].path: one for one in prepared.built}
        for record in records:
            path = record.paths[0]
            end, found = ends.get(path, path), found_in.get(path)
            if found is not None and end in built:
                built[end] = ended_and_folded(built[end], found)
            elif found is not None:
                built[end] = folded_alone(copy.loaded.model, record, found)
        made.append(replace(prepared, built=tuple(built.values())))
    return made, errors


def untied(model: nn.Module, built: Sequence[Built]) -> Iterator[str]:
    """Yield a note for each tensor that a changed module shares with one that stays.

    A module is written with tensors of its own.
    """
    kept = _staying(model, tuple(path for one in built for path in one.paths))
    for one in built:
        for name, tensor in named_tensors(one.module).items():
            if other := kept.get(id(tensor)):
                own = f"{one.paths[0]}.{name}"
                yield f"{own} was one tensor with {other}, and is one of its own now"


def _staying(model: nn.Module, paths: Sequence[str]) -> dict[int, str]:
    """Return the names of the tensors of a model that are not below some paths, by their ids."""
    changed = [f"{path}." for path in paths]
    return {
        id(tensor): f"{place.path}.{name}".lstrip(".")
        for place in module_paths(model)
        if not f"{place.path}.".startswith(tuple(changed))
        for name, tensor in named_tensors(place.module, recurse=False).items()
    }


@contextmanager
def run_or_refused(where: str) -> Iterator[None]:
    """Raise a `CheckpointError` for what a model of the file raises in a pass."""
    try:
        yield
    except ModswapError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        what = f"its model does not run on the dummy input: {type(error).__name__}: {text:.200}"
        fix = "name an input that it takes by `--input`, or write the file again"
        raise CheckpointError(what, where, fix) from error


def _folded(
    copy: FileCopy, case: Case, job: Rework
) -> tuple[tuple[Built, ...], tuple[ShapeError, ...]]:
    """Return the modules that do without their gates, and an error for each that does not."""
    built, staying, loaded, beside = [], [], copy.loaded, copy.beside
    inner = {one.record.paths[0]: one.module.module for one in beside}
    with recorded(inner) as given, ready(loaded.model, case, 0) as (args, kwargs, dtype):
        if beside:
            with run_or_refused(f"{job.subject.file}{copy.key}"):
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


def _stays(one: BesideModule, copy: FileCopy, *, reached: bool) -> ShapeError:
    """Return the reason for which a module keeps its gate."""
    least, most = gate_range(one.module)
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


def _built_beside(loaded: Loaded, one: BesideModule, made: Folded) -> Built:
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
    note = f"its gate, {_between(*gate_range(one.module))}, {end}"
    blueprint = replace(one.record.blueprint(), joint=joint)
    step = Step(rule, ("replace", 0), "", (site,))
    return Built(step, (site,), blueprint, made.module, (note,), Started("preserve", names))

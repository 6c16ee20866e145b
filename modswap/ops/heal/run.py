"""A healing from the models in memory to the modules with new values, for all its callers."""

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from modswap.core.asked.healing import PICTURE_WISHES, HealingRequest
from modswap.core.asked.rules.rule import Rule
from modswap.core.decided.blueprint import Blueprint
from modswap.core.decided.plan import Step
from modswap.core.decided.started import Started
from modswap.core.errors import UsageError
from modswap.core.healed.healing import HEALED, Healing
from modswap.core.progress import Progress, silent
from modswap.core.seen.site import Site
from modswap.live_values import module_paths
from modswap.nn.inherit.respelling import tensors_of
from modswap.ops.apply import apply, module_at
from modswap.ops.build.fit import Built
from modswap.ops.heal import ranks
from modswap.ops.heal.data.columns import TensorSamples
from modswap.ops.heal.data.drawn.samples import NONE
from modswap.ops.heal.data.open import open_samples
from modswap.ops.heal.data.taker import DataRequest, Taker
from modswap.ops.heal.data.texts import takes_mask
from modswap.ops.heal.fitting.resume import ResumeFile
from modswap.ops.heal.healer import Healer
from modswap.ops.heal.inherit import inheriting
from modswap.ops.heal.passes import Models
from modswap.ops.heal.samples import Batch, Samples
from modswap.ops.heal.sites import Bypass, HealedSite
from modswap.ops.heal.working import moved, running, take_values, taken_back, working_copy
from modswap.ops.run.describe import class_name
from modswap.ops.run.forward import half_of
from modswap.ops.run.inputs import Case

_DRAWING = 0.5  # of the minutes, in which drawn samples may be optimised


@dataclass(frozen=True, slots=True)
class HealingWishes:
    """Data and wishes of a healing.

    Args:
        data: A path, `file.py:callable`, `none`, or an iterable.
        request: What is asked of it.
        size: Height and width that the user said; None for none.
        progress: Takes the step in words.
        resume: Keeps the state of a run.
    """

    data: Any
    request: HealingRequest = field(default_factory=HealingRequest)
    size: tuple[int, int] | None = None
    progress: Progress = silent
    resume: ResumeFile | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A healing, the healed copy of the model, and the paths of what changed in it.

    `judged` is a sample that the user gave, one of those that judge; None for drawn ones.
    """

    healing: Healing
    copy: nn.Module
    changed: tuple[str, ...]
    sites: tuple[HealedSite, ...]
    judged: Batch | None = None

    def built(self, model: nn.Module) -> tuple[Built, ...]:
        """Return copies of the model's modules with the values of the healed ones."""
        known: dict[int, list[str]] = {}
        for place in module_paths(model):
            known.setdefault(id(place.module), []).append(place.path)
        changed = (self._built(model, path, known) for path in self.changed)
        return (*changed, *self.beside(model))

    def _built(self, model: nn.Module, path: str, known: Mapping[int, list[str]]) -> Built:
        own = module_at(model, path)
        made = taken_back(module_at(self.copy, path), own)
        site = next((one for one in self.sites if one.paths[0] == path), None)
        paths = site.paths if site is not None else tuple(known[id(own)])
        elements = sum(parameter.numel() for parameter in own.parameters())
        place = Site(
            path,
            class_name(own if site is None else site.old),
            aliases=paths[1:],
            params=elements,
        )
        blueprint = _blueprint(own, site)
        rule = Rule.model_validate({"match": "**", "with": blueprint.module, "start": "preserve"})
        step = Step(rule, ("replace", 0), "", (place,))
        built = Built(step, (place,), blueprint, made, there=True)
        return replace(built, started=healed_start(built))

    def put_into(self, model: nn.Module, paths: Iterable[str] | None = None) -> None:
        """Give the model's own tensors the healed values, of all that changed or of some paths."""
        for path in self.changed if paths is None else paths:
            take_values(module_at(model, path), module_at(self.copy, path))

    def put_beside(self, model: nn.Module) -> tuple[Built, ...]:
        """Put linear maps beside the new modules of the model itself; return them."""
        built = self.beside(model)
        apply(model, [(one.paths, one.module) for one in built])
        return built

    def beside(self, model: nn.Module) -> tuple[Built, ...]:
        """Return the linear maps to be put beside new modules of the model."""
        return tuple(_beside(model, site, site.bypass) for site in self.sites if site.bypass)


def _beside(model: nn.Module, site: HealedSite, bypass: Bypass) -> Built:
    """Return the linear map beside a new module, in that module's dtype and place."""
    path, *others = (f"{one}.{bypass.name}" for one in site.paths)
    own = module_at(model, site.paths[0])
    there = Site(site.paths[0], class_name(own), aliases=site.paths[1:])
    joint = bypass.blueprint.joint
    place = Site(path, there.class_name, aliases=tuple(others), beside=there, joint=joint)
    made = copy.deepcopy(bypass.inserted)
    made.to(next(own.parameters(), torch.zeros(1))).train(own.training)
    rule = Rule.model_validate({"match": "**", "with": bypass.blueprint.module})
    step = Step(rule, ("replace", 0), "", (place,))
    built = Built(step, (place,), bypass.blueprint, made)
    return replace(built, started=healed_start(built))


def healed_start(built: Built) -> Started:
    """Return the record of the start of a healed module: each tensor comes from the old ones."""
    names = {name: f"{built.paths[0]}.{name}" for name in tensors_of(built.module)}
    return Started(HEALED, names)


def _blueprint(module: nn.Module, site: HealedSite | None) -> Blueprint:
    """Return what a module was made of, or its class alone."""
    if site is not None and site.record is not None:
        return site.record.blueprint()
    cls = type(site.inner if site is not None else module)
    return Blueprint(f"{cls.__module__}:{cls.__qualname__}", {})


def _asked(wanted: HealingWishes) -> DataRequest:
    """Return the wishes about the data."""
    request = wanted.request
    drawn = isinstance(wanted.data, str) and wanted.data == NONE
    return DataRequest(
        most=request.samples,
        seed=request.seed,
        size=request.size or wanted.size,
        mean=request.mean,
        std=request.std,
        optimise_steps=(request.steps or 0) if drawn else 0,
        optimise_seconds=None if request.minutes is None else _DRAWING * 60 * request.minutes,
        said=tuple(name for name in PICTURE_WISHES if getattr(request, name) is not None),
    )


def samples_for(taker: Taker, wanted: HealingWishes) -> tuple[Samples, HealingRequest]:
    """Return the samples, and the request with the time that they leave; say what they are."""
    request, started, asked = wanted.request, time.monotonic(), _asked(wanted)
    samples = open_samples(wanted.data, taker, asked, wanted.progress)
    for said in (samples.description, *samples.notes):
        wanted.progress(f"data: {said}")
    if asked.optimise_steps and request.minutes is not None:
        if isinstance(samples, TensorSamples):  # optimised in a time, in which each gets elsewhere
            ranks.same(samples.given.values())
        left = request.minutes - (time.monotonic() - started) / 60
        request = replace(request, minutes=max(left, 0))
    return samples, request


def _of_half(model: nn.Module) -> tuple[str, ...]:
    """Return the sentence on a model in half precision."""
    half = half_of(model)
    if half is None:
        return ()
    held = str(half).removeprefix("torch.")
    said = f"all numbers are those of a copy in float32: the file holds {held}, which rounds them"
    return (said,)


def _refuse_parts(request: HealingRequest) -> None:
    """Refuse to divide a model that cannot be.

    Raises:
        UsageError: If it is to be divided.
    """
    if request.shard and ranks.world() == 1:
        what = "there is one process, and --shard divides a model among several"
        raise UsageError(what, "--shard", "leave it out, or start the command by torchrun")
    if request.shard and request.bypass:
        what = "a map beside a module runs in a hook, which a model in parts does not have"
        raise UsageError(what, "--shard", "leave out --shard or --bypass")


def heal_models(
    taker: Taker, model: nn.Module, sites: Sequence[HealedSite], wanted: HealingWishes
) -> Result:
    """Heal a copy of a model against the original, which `taker` holds with a call of both.

    Raises:
        ModswapError: If the data cannot be used, or a wish does not fit.
    """
    _refuse_parts(wanted.request)
    taker = replace(taker, masked=takes_mask(taker, model))
    samples, request = samples_for(taker, wanted)
    old = running(taker.model, request)
    working = working_copy(model, (site.learned for site in sites), request)
    models = Models(old, working, samples, request.batch)
    healer = Healer(
        models,
        moved(sites, old, working),
        request,
        inheriting(old, Case(taker.call)),
        wanted.progress,
        wanted.resume or ResumeFile(None, {}),
    )
    healed = healer.run()
    used = {s.path: s.bypass for s in healer.sites if s.bypass is not None and s.bypass.used}
    found = tuple(replace(site, bypass=used.get(site.path)) for site in sites)
    notes = (*healed.healing.notes, *_of_half(model))
    judged = None if wanted.data == NONE else samples.batch(healer.held[:1])
    healing = replace(healed.healing, notes=notes)
    return Result(healing, working, healed.changed, found, judged)

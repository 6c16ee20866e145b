"""Heal a model: the stages in their order, each judged on samples that none learned from."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from modswap.core.asked.healing import HealingRequest
from modswap.core.errors import InputError
from modswap.core.healed.agreement import Agreement, Control
from modswap.core.healed.healing import Healing, Measured, SiteHealing, StageResult
from modswap.core.progress import Progress, silent
from modswap.ops.apply import module_at
from modswap.ops.heal import ranks
from modswap.ops.heal.bypass import fit_bypass, put_bypasses, without_idle
from modswap.ops.heal.closed.fit import fit_closed, inherit_map
from modswap.ops.heal.fitted import Fits, changing_everywhere
from modswap.ops.heal.fitting.resume import ResumeFile
from modswap.ops.heal.measures.agreement import accuracy, agreement
from modswap.ops.heal.measures.controls import Judged, disturbed, dropped
from modswap.ops.heal.measures.metric import Metric, metric_for
from modswap.ops.heal.measures.passes import outputs_of, still
from modswap.ops.heal.measures.user_metric import user_metric
from modswap.ops.heal.norms import best_estimate, norms_behind
from modswap.ops.heal.passes import Models, call_order, tried
from modswap.ops.heal.site_errors import SiteError, site_error
from modswap.ops.heal.sites import HealedSite, in_order
from modswap.ops.heal.tensors import put_values, values_of
from modswap.ops.run.isolation import set_mode
from modswap.seeds import seeded

HELD = 5  # one of so many samples is held out
MOST_HELD = 512
LEAST = 32  # samples
_EXACT = 1e-9  # error of outputs below which a swap counts as exact
_NEAR = 0.5  # error at a site below which a fit goes on from a closed form, at a small rate
_DISGUISE = 1e-3  # share of the variance below which attention counts as switched off


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a stage may change: weights, statistics of norms, and what is known."""

    tensors: Sequence[tuple[nn.Module, Mapping[str, torch.Tensor]]]
    norms: tuple[str, ...]
    begun: frozenset[str]
    notes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Healed:
    """The result of a healing, and the paths of the modules whose weights changed."""

    healing: Healing
    changed: tuple[str, ...]


@dataclass(eq=False)
class Healer:
    """A healing in progress; the model is changed in place.

    Args:
        models: The original, the model and the samples.
        sites: The sites in any order.
        request: What the user asks.
        inherit: Gives a site's new module what it inherits from the old one.
        progress: Takes the step in words.
        resume: Keeps the results of stages, and the state of a fit.
    """

    models: Models
    sites: tuple[HealedSite, ...]
    request: HealingRequest
    inherit: Callable[[HealedSite], bool] = lambda _: False
    progress: Progress = silent
    resume: ResumeFile = field(default_factory=lambda: ResumeFile(None, {}))
    learn: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    norms: tuple[str, ...] = ()  # paths of those that were estimated again
    kept: tuple[str, ...] = ()  # stages whose results were kept
    notes: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, SiteError] = field(default_factory=dict)  # of sites, until a stage is kept
    best: Agreement = field(init=False)
    metric: Metric = field(init=False)
    fits: Fits = field(init=False)
    uncalled: tuple[str, ...] = field(init=False)  # paths of sites that the samples do not reach
    behind: tuple[str, ...] = field(init=False)  # paths of the batch norms behind the first site

    def __post_init__(self) -> None:
        """Choose the samples that judge, and the metric."""
        count = min(self.models.samples.count, self.request.samples)
        if count < LEAST:
            what = f"there are {count} samples, and a healing needs {LEAST} or more"
            raise InputError(what, "--data", "give more, or `--data none` for drawn ones")
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.request.seed))
        held = min(count // HELD, MOST_HELD)
        self.held, self.learn = tuple(order[:held].tolist()), tuple(order[held:].tolist())
        samples = self.models.samples
        with self._still(), call_order(self.sites) as calls:
            tried(self.models, self.held[:2])
            original = outputs_of(self.models.original, samples.batch(self.held[:32]))
        self.uncalled = tuple(site.path for site in self.sites if site.path not in calls)
        self.sites = in_order(self.sites, calls)
        if not self.sites:
            what = "no new module is called for these samples"
            raise InputError(what, self.uncalled[0], "give data that reach it")
        with self._still():
            if self.request.bypass:
                self.sites = put_bypasses(self.models, self.sites, self.learn)
            self.behind = norms_behind(self.models, self.sites, self.held)
        asked = self.request.metric or None
        self.metric = metric_for(original, asked, model=self.models.original)
        if self.request.everything:
            changing_everywhere(self.models.model, self.sites)
        self.fits = Fits(
            self.models,
            self.sites,
            self.request,
            self.learn,
            self._judged,
            self.progress,
            self.resume,
        )

    def run(self) -> Healed:
        """Run the stages; return what was measured and what changed."""
        with self._still():
            self.progress("measuring how far the swapped model agrees with the original")
            before = self.best = self._judged()
            errors = {site.path: self._error(site, shared=False) for site in self.sites}
            self.errors = dict(errors)
            controls = self._controls()
            own = tuple(self._measures())
            first = [
                (measure(self.models.original), measure(self.models.model)) for _, measure in own
            ]
            exact = before.error <= _EXACT
            stages = () if exact else tuple(self._stages())
            after, last = self._last([measure for _, measure in own])
        healing = Healing(
            samples=self.models.samples.description,
            learned=len(self.learn),
            held=len(self.held),
            before=before,
            after=self.best,
            goal=self.request.until,
            stages=stages,
            sites=tuple(self._site(s, errors[s.path], after[s.path]) for s in self.sites),
            controls=controls,
            measured=tuple(
                Measured(name, *both, end)
                for (name, _), both, end in zip(own, first, last, strict=True)
            ),
            interrupted=self.fits.interrupted,
            notes=(*self.models.samples.notes, *self._notes(exact=exact)),
        )
        return Healed(healing, self._changed(stages))

    def _last(
        self, measures: Sequence[Callable[[nn.Module], float]]
    ) -> tuple[dict[str, SiteError], list[float]]:
        """Return the errors of the sites and the other numbers; NaN for all after Ctrl-C."""
        try:
            after = {site.path: self._error(site, shared=True) for site in self.sites}
            return after, [measure(self.models.model) for measure in measures]
        except KeyboardInterrupt:
            self._broken_off()
            gone = SiteError(float("nan"), None)
            return {site.path: gone for site in self.sites}, [float("nan") for _ in measures]

    def _broken_off(self) -> None:
        """Note Ctrl-C; of several processes the first one goes on alone with what it has."""
        if not ranks.first():
            raise KeyboardInterrupt
        ranks.leave()
        self.fits.interrupted = True
        self.resume.keep("", "", {})  # so that the file is there in any case

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Run a block in evaluation; the model keeps the weights and buffers that it made."""
        flags = [(module, module.training) for module in self.models.model.modules()]
        set_mode(self.models.model, training=False)
        try:
            with still(self.models.original), seeded(self.request.seed):
                yield
        finally:
            for module, training in flags:
                module.training = training

    def _judged(self) -> Agreement:
        m = self.models
        return agreement(m.original, m.model, m.samples, self.held, m.size, self.metric)

    def _measures(self) -> Iterator[tuple[str, Callable[[nn.Module], float]]]:
        """Yield what is reported beside the agreement: accuracy and the user's metric."""
        m = self.models
        if accuracy(m.original, m.samples, self.held, m.size) is not None:

            def share(model: nn.Module) -> float:
                return accuracy(model, m.samples, self.held, m.size) or 0.0

            yield "accuracy on labels", share
        if self.request.evaluate:
            own = user_metric(self.request.evaluate)
            yield self.request.evaluate, lambda model: ranks.computed_once(lambda: own(model))

    def _error(self, site: HealedSite, *, shared: bool) -> SiteError:
        return site_error(self.models, site, self.held, shared=shared)

    def _controls(self) -> tuple[Control, ...]:
        m = self.models
        judged = Judged(m.original, m.samples, self.held, m.size, self.metric)
        gone = dropped(judged, [site.path for site in self.sites])
        return (*((gone,) if gone is not None else ()), *disturbed(judged))

    def _stages(self) -> list[StageResult]:
        """Return the result of each stage; Ctrl-C leaves the state before the one that it ends."""
        done: list[StageResult] = []
        held = self._state()
        try:
            for stage in self.request.stages:
                fitted = stage in {"fit", "end"}
                if self.fits.interrupted or (fitted and self._enough()):
                    break
                if fitted:
                    self.sites = self.fits.sites = without_idle(self.sites)
                done.append(self._stage(stage, held := self._state()))
        except KeyboardInterrupt:
            self._restore(held)
            self._broken_off()
        return done

    def _stage(self, stage: str, held: State) -> StageResult:
        """Run a stage; what agrees less than before is taken back."""
        self.progress(f"stage {stage}")
        started = time.monotonic()
        note = self._run(stage)
        found = self._judged()
        kept = bool(note) and found.better_than(self.best)
        if kept:
            self.best = found
            self.kept += (stage,)
            self.errors.clear()
        else:
            self._restore(held)
        back = "" if kept else ", taken back"
        self.progress(f"stage {stage}: {found.metric} {found.value:.3f}{back}")
        return StageResult(stage, found, time.monotonic() - started, kept, note)

    def _enough(self) -> bool:
        """Return whether the goal is reached, and no stage was asked for by its name."""
        return not self.request.chosen and self.metric.shown(self.best) >= self.request.until

    def _run(self, stage: str) -> str:
        """Run a stage, or put in what it found before the run was broken off; return its note."""
        if stage == "fit":
            return self.fits.local()
        if stage == "end":
            return self.fits.end()
        done = self.resume.finished(stage, "")
        if done is not None:
            self.norms, self.fits.begun = tuple(done["norms"]), set(done["begun"])
            self.notes = {path: list(notes) for path, notes in done["notes"].items()}
            for path, tensors in done["tensors"].items():
                put_values(self._module(path), tensors)
            return str(done["note"])
        runs = {"inherit": self._inherited, "closed": self._closed, "norms": self._renormed}
        note = runs[stage]()
        paths = (*(site.paths[0] for site in self.sites), *self.norms)
        result = {
            "note": note,
            "norms": list(self.norms),
            "begun": sorted(self.fits.begun),
            "notes": self.notes,
            "tensors": {path: values_of(self._module(path)) for path in paths},
        }
        self.resume.finish(stage, "", result)
        return note

    def _module(self, path: str) -> nn.Module:
        return module_at(self.models.model, path)

    def _inherited(self) -> str:
        """Give new modules what they inherit; return how many do."""
        taken = [site for site in self.sites if self._inherits(site)]
        for site in taken:
            self.notes.setdefault(site.path, []).append("it inherits from the old module")
        self.fits.begun.update(site.path for site in taken)
        return f"{len(taken)} of {len(self.sites)} modules inherit" if taken else ""

    def _inherits(self, site: HealedSite) -> bool:
        with torch.no_grad():
            return inherit_map(site, self.request.damp) or self.inherit(site)

    def _closed(self) -> str:
        """Fit each site in the order of depth; a fit that is no better there is taken back."""
        done = 0
        for site in self.sites:
            self.progress(f"stage closed: {site.path}")
            known = self.errors.get(site.path) if not done else None
            first = known or self._error(site, shared=False)
            held, least, notes = values_of(site.learned), first.error, None
            for found in self._closed_forms(site):
                error = self._error(site, shared=False).error
                if not error >= least:  # also where it was no number before
                    held, least, notes = values_of(site.learned), error, found
            put_values(site.learned, held)
            if notes is not None:
                done += 1
                self.fits.begun.update([site.path] if least < _NEAR else [])
                self.notes.setdefault(site.path, []).extend(notes)
        return f"{done} of {len(self.sites)} modules fitted" if done else ""

    def _closed_forms(self, site: HealedSite) -> Iterator[tuple[str, ...]]:
        """Give a site one closed form after another; yield the notes on each.

        The linear map is solved, or the old module's own, if that is inherited; then what it
        leaves goes into the map beside the module, where that is allowed.
        """
        damp = self.request.damp
        for inherited in (False, True):
            if site.bypass is not None:
                site.bypass.clear()
            if inherited and not inherit_map(site, damp):
                continue
            with torch.enable_grad():
                found = fit_closed(self.models, site, self.learn, damp, inherited=inherited)
            yield found.notes
            if site.bypass is not None:
                beside = fit_bypass(self.models, site, site.bypass, self.learn)
                if beside:
                    yield (*found.notes, *beside)

    def _renormed(self) -> str:
        """Estimate the statistics of the norms behind the sites again, the nearest or all."""
        # what is beside others can be taken out again, and the norms are to be as they were then
        paths = self.behind if any(site.replaces for site in self.sites) else ()
        candidates = [paths[: len(self.sites)], paths]
        tried = best_estimate(self.models, candidates, self.learn, self._judged)
        if tried is None or tried.agreement.value <= self.best.value:
            return ""
        tried.put(self.models.model)
        self.norms = tried.paths
        norms = "1 batch norm" if len(self.norms) == 1 else f"{len(self.norms)} batch norms"
        return f"the statistics of {norms} estimated again"

    def _state(self) -> State:
        modules = [*(site.learned for site in self.sites), *map(self._module, self.behind)]
        if self.request.everything:
            modules = [self.models.model]
        tensors = [(module, values_of(module)) for module in modules]
        notes = {path: tuple(notes) for path, notes in self.notes.items()}
        return State(tensors, self.norms, frozenset(self.fits.begun), notes)

    def _restore(self, state: State) -> None:
        for module, values in state.tensors:
            put_values(module, values)
        self.norms, self.fits.begun = state.norms, set(state.begun)
        self.notes = {path: list(notes) for path, notes in state.notes.items()}

    def _site(self, site: HealedSite, before: SiteError, after: SiteError) -> SiteHealing:
        notes = tuple(dict.fromkeys(self.notes.get(site.path, ())))
        if after.share is not None and after.share < _DISGUISE:
            notes += ("its own mechanism adds nothing: it is the old module in another form",)
        if after.share is not None and after.share > 1:
            notes += (
                "its own mechanism varies more than its output: the map cancels a part of it",
            )
        return SiteHealing(site.path, before.error, after.error, after.share, notes)

    def _notes(self, *, exact: bool) -> tuple[str, ...]:
        left = f"the samples do not reach {', '.join(self.uncalled)}, which stay as they were"
        return (*((left,) if self.uncalled else ()), *self._end(exact=exact))

    def _end(self, *, exact: bool) -> tuple[str, ...]:
        """Return how the healing ended."""
        if exact:
            return ("the swapped model computes what the original does: there is nothing to heal",)
        if self.fits.interrupted:
            more = "; --resume goes on" if self.resume.file is not None else ""
            return (f"broken off: this is the best state so far{more}",)
        if self.best.value < self.request.until:
            return (f"short of the goal of {self.request.until:g}",)
        return ()

    def _changed(self, stages: Sequence[StageResult]) -> tuple[str, ...]:
        if not any(stage.kept for stage in stages):
            return ()
        sites = tuple(site.paths[0] for site in self.sites)
        if self.request.everything and "end" in self.kept:
            return (*sites, *changing_everywhere(self.models.model, self.sites))
        return (*sites, *self.norms)

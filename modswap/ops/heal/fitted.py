"""The fitted stages of a healing: each new module at its site, then all through the whole model."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from modswap.core.asked.healing import HealingRequest
from modswap.core.errors import UsageError
from modswap.core.healed.agreement import Agreement
from modswap.core.healed.progress import INTERRUPTED, FitStep, Fitted
from modswap.core.launch import launch
from modswap.core.progress import Progress
from modswap.live_values import module_paths
from modswap.ops.apply import module_at
from modswap.ops.heal import ranks
from modswap.ops.heal.fitting.end import EndFit, fit_end
from modswap.ops.heal.fitting.local import LocalFit, fit_local, judged_with_old
from modswap.ops.heal.fitting.pace import RATE_FROM_CLOSED_FORM, RATE_FROM_RANDOM, Pace, Watch
from modswap.ops.heal.fitting.resume import ResumeFile
from modswap.ops.heal.fitting.sharded import sharded
from modswap.ops.heal.fitting.stored import Room
from modswap.ops.heal.passes import Models
from modswap.ops.heal.sites import HealedSite
from modswap.ops.run.process_memory import available

_SHARE = 4  # of the free memory, one part may hold inputs and targets


@dataclass(eq=False)
class Fits:
    """The fitted stages of a healing.

    Args:
        models: The original, the model and the samples.
        sites: The sites in the order of depth.
        request: What the user asks.
        learn: Numbers of the samples to learn from.
        judge: Returns the agreement of the model on the others.
        progress: Takes the step in words.
        resume: Keeps the state of a fit.
        begun: Paths of the sites whose modules have weights that were fitted or inherited.
    """

    models: Models
    sites: Sequence[HealedSite]
    request: HealingRequest
    learn: Sequence[int]
    judge: Callable[[], Agreement]
    progress: Progress
    resume: ResumeFile
    begun: set[str] = field(default_factory=set)
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def local(self) -> str:
        """Fit each new module at its site, in the order of depth; return what was done."""
        done = []
        for number, site in enumerate(self.sites):
            if self.interrupted:
                break
            task = LocalFit(
                path=site.path,
                module=site.new,
                learned=site.learned,
                pairs=lambda chosen, site=site: self.models.observed(site, chosen),  # type: ignore[misc] # bound here
                indices=self.learn,
                judge=self._judge_of(number),
                channel_axis=-1 if site.layout in {"NHWC", "NLC"} else 1,
            )
            pace = self._pace(site.path in self.begun, 2 * len(self.sites) - number)
            done.append(fit_local(task, pace, self._watch(), self._room()))
            self.interrupted = done[-1].ended == INTERRUPTED
        return _said(done)

    def _judge_of(self, number: int) -> Callable[[], Agreement]:
        """Return the judge of a site: behind it, where nothing was learned, are the old modules."""
        later = [site for site in self.sites[number + 1 :] if site.path not in self.begun]
        old = [(site.paths if site.replaces else (site.path,), site.old) for site in later]
        return judged_with_old(self.models.model, old, self.judge)

    def end(self) -> str:
        """Fit the new modules, or all weights, through the whole model; return what was done."""
        if not self.request.shard:
            return self._end()
        own = self.models.model
        try:
            with sharded(own) as self.models.model:
                return f"{self._end()}; the model in {ranks.world()} parts"
        finally:
            self.models.model = own

    def _end(self) -> str:
        model = self.models.model
        task = EndFit(
            original=self.models.original,
            model=model,
            learned=[module_at(model, site.paths[0]) for site in self.sites],
            samples=self.models.samples,
            indices=self.learn,
            judge=self.judge,
            everything=self.request.everything,
        )
        done = fit_end(task, self._pace(begun=True, left=1), self._watch())
        self.interrupted = done.ended == INTERRUPTED
        return _said([done])

    def _pace(self, begun: bool, left: int) -> Pace:  # noqa: FBT001 - a fact of the site
        """Return the pace of a fit; `left` fits share the time that is left."""
        seconds = None
        if self.request.minutes is not None:
            gone = time.monotonic() - self._started
            seconds = ranks.from_first(max(60 * self.request.minutes - gone, 0.0) / left)
        rate = RATE_FROM_CLOSED_FORM if begun else RATE_FROM_RANDOM
        batch = 2 * self.request.batch
        return Pace(self.request.fit_steps, rate, batch, self.request.seed, seconds=seconds)

    def _watch(self) -> Watch:
        return Watch(lambda now: self.progress(FitStep.of(now)), self.resume)

    def _room(self) -> Room:
        most = self.request.max_memory
        free = available()
        nbytes = most if most is not None else 0 if free is None else free // _SHARE
        return Room(nbytes // launch().beside, Path(tempfile.gettempdir()))


def _said(fits: Sequence[Fitted]) -> str:
    steps = sum(one.steps for one in fits)
    reasons = dict.fromkeys(one.ended for one in fits)
    kept = dict.fromkeys(one.targets for one in fits if one.targets)
    return "; ".join([f"{steps:,} steps: {', '.join(reasons)}", *kept])


def changing_everywhere(model: nn.Module, sites: Sequence[HealedSite]) -> tuple[str, ...]:
    """Return the paths of all modules with tensors of their own, outside the new modules.

    Raises:
        UsageError: If the model itself has parameters, which have no module to be written with.
    """
    return tuple(dict.fromkeys(_changing(model, sites)))


def _changing(model: nn.Module, sites: Sequence[HealedSite]) -> Iterator[str]:
    inside = {id(inner) for site in sites for inner in site.learned.modules()}
    held: dict[int, str] = {}
    for place in module_paths(model):
        own = [*place.module.parameters(recurse=False), *place.module.buffers(recurse=False)]
        if not own or id(place.module) in inside:
            continue
        if list(place.module.children()) or not place.path:
            what = f"{place.path or 'the model itself'!r} holds parameters beside its modules"
            raise UsageError(f"{what}, which cannot all be written", "--all", "leave it out")
        inside.add(id(place.module))
        for tensor in own:
            if (other := held.setdefault(id(tensor), place.path)) != place.path:
                what = f"{other!r} and {place.path!r} share a tensor, which cannot be written twice"
                raise UsageError(what, "--all", "leave it out")
        yield place.path

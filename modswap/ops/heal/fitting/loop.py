"""The loop of a fit: AdamW, one cycle of the rate, the best state kept, state to resume from."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from modswap.core.healed.agreement import Agreement
from modswap.core.healed.progress import (
    DIVERGED,
    GOAL,
    INTERRUPTED,
    NO_BETTER,
    STEPS,
    TIME,
    FitProgress,
    Fitted,
)
from modswap.ops.heal import ranks
from modswap.ops.heal.fitting.interruption import Interruption, interruption
from modswap.ops.heal.fitting.pace import Order, Pace, Watch, one_cycle, seed_of_step
from modswap.ops.heal.fitting.resume import State
from modswap.ops.heal.fitting.sharded import put_parts, whole_values
from modswap.ops.heal.fitting.steps import Scales, Share, StepLoss, Terms, whole
from modswap.ops.heal.tensors import copied, fill
from modswap.seeds import seeded

REPORTED_EVERY = 10  # steps; a device then waits for the loss
TIMED_STEPS = 10  # after which the time of all steps is known
KEPT_EVERY_SECONDS = 5.0  # the state, or more seldom
WRITES_EACH = 20  # times as long as a write takes, so that it costs a twentieth of the time
MOST_NORM = 1.0  # of the gradient

Judge = Callable[[], Agreement]


@dataclass(frozen=True, slots=True)
class FitTask:
    """A fit: which tensors change, and by which loss.

    Args:
        stage: Name of the stage.
        site: Dotted name of the module that learns; empty where several do.
        model: The module that runs, with all that learns inside; the rest of it is frozen.
        learning: Modules in it that run in training.
        groups: Parameters that learn, with a share of the rate each.
        held: All tensors that change, buffers included, by name.
        indices: Numbers of the samples to learn from.
        scales: Returns numbers that the loss needs, measured before the first step.
        terms: Returns the terms of the loss of the samples of these numbers, given the scales.
        share: Returns the samples of a step that this process learns from.
        judge: Returns the agreement on other samples; None where none is measured.
    """

    stage: str
    site: str
    model: nn.Module
    learning: Sequence[nn.Module]
    groups: Sequence[tuple[Sequence[nn.Parameter], float]]
    held: Mapping[str, torch.Tensor]
    indices: Sequence[int]
    scales: Callable[[], Scales]
    terms: Terms
    judge: Judge | None = None
    share: Share = whole


def train(task: FitTask, pace: Pace, watch: Watch) -> Fitted:
    """Run a fit; the tensors that change hold the best state afterwards.

    Ctrl-C is heard between two steps: the state is kept for resuming, the best state is put in, and
    the result says `interrupted`. A fit that has ended before, by the resume file, is put in again.
    A fit that goes on has the bits of one that was not stopped on the CPU, with as many threads.
    """
    if (done := watch.resume.finished(task.stage, task.site)) is not None:
        fill(task.held, done["tensors"])
        return _fitted(task, done["result"])
    with _learning(task), interruption() as interrupted, torch.enable_grad():
        run = _FitRun(task, pace, watch)
        ended = run.to_end(interrupted)
    result = run.result(ended)
    if ended != INTERRUPTED:
        found = {"tensors": whole_values(copied(task.held)), "result": asdict(result)}
        watch.resume.finish(task.stage, task.site, found)
    return result


class _FitRun:
    """A fit in progress."""

    def __init__(self, task: FitTask, pace: Pace, watch: Watch) -> None:
        self.task, self.pace, self.watch = task, pace, watch
        groups: list[dict[str, Any]] = [
            {"params": list(parameters), "share": share} for parameters, share in task.groups
        ]
        self.optimizer = torch.optim.AdamW(groups, pace.rate, weight_decay=0.0, foreach=True)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.order = Order(task.indices, pace)
        self.loss = StepLoss(task.model, task.terms, task.share, task.indices)
        self.losses: deque[float] = deque(maxlen=REPORTED_EVERY)
        self.earlier = 0.0  # seconds of the runs before this one
        self.started, self.begun = time.monotonic(), 0
        self.kept, self.writing = self.started, 0.0  # when it was written, and how long that took
        state = watch.resume.state(task.stage, task.site)
        if state is None:
            self.step, self.steps, self.idle = 0, pace.steps, 0
            self.scales = task.scales()
            self.before = self.best = task.judge() if task.judge is not None else None
            self.best_tensors = copied(task.held)
        else:
            self._load(state)

    def to_end(self, interrupted: Interruption) -> str:
        """Run the steps that are left; return why they ended."""
        try:
            return self._steps_to_end(interrupted)
        finally:  # a second Ctrl-C raises
            if self.task.judge is not None:
                fill(self.task.held, self.best_tensors)

    def _steps_to_end(self, interrupted: Interruption) -> str:
        ended = ""
        while not ended:
            ended = self._ended() or self._next()
            pressed, due = ranks.any_of(bool(interrupted), ranks.first() and self._due())
            if pressed:
                interrupted.taken, ended = True, INTERRUPTED
            if pressed or (due and not ended):
                self._keep()
        if ended == DIVERGED:
            fill(self.task.held, self.best_tensors)
        return ended

    def _due(self) -> bool:
        """Return whether the state is to be written, every few steps or seconds."""
        passed = time.monotonic() - self.kept
        late = passed >= max(KEPT_EVERY_SECONDS, WRITES_EACH * self.writing)
        return late or self.step % self.watch.every == 0

    def _keep(self) -> None:
        """Write the state."""
        if not self.watch.resume.kept:
            return
        started = time.monotonic()
        self.watch.resume.keep(self.task.stage, self.task.site, self._state())
        self.kept = time.monotonic()
        self.writing = self.kept - started

    def result(self, ended: str) -> Fitted:
        """Return the result of the fit."""
        return Fitted(
            self.task.stage,
            self.task.site,
            self.step,
            self._loss(),
            self.before,
            self.best,
            ended,
            self._seconds(),
        )

    def _ended(self) -> str:
        if self.best is not None and self.best.value >= (self.pace.goal or math.inf):
            return GOAL
        if self.idle >= self.pace.patience:
            return NO_BETTER
        if self.step >= self.steps:
            return STEPS if self.steps == self.pace.steps else TIME
        return ""

    def _next(self) -> str:
        """Run a step; return why the fit ends with it, empty where it goes on."""
        share, decay = one_cycle(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.pace.rate * group["share"] * share
            group["betas"] = (decay, group["betas"][1])
        with seeded(seed_of_step(self.pace.seed, self.step)):
            chosen = self.order.chosen(self.step)
            self.optimizer.zero_grad()
            with ranks.heard():
                loss = self.loss.backward(chosen, self.scales)
        nn.utils.clip_grad_norm_(self.parameters, MOST_NORM)
        self.optimizer.step()
        self.step += 1
        if self.step % REPORTED_EVERY == 0 or self.step == self.steps:
            (total,) = ranks.totals([float(loss)])
            self.losses.append(total / ranks.world())
            if not math.isfinite(self.losses[-1]):
                return DIVERGED
        self._judge()
        self._shorten()
        self._report(len(chosen))
        return ""

    def _judge(self) -> None:
        due = self.step % self.pace.judged_every == 0 or self.step == self.steps
        if self.task.judge is None or self.best is None or not due:
            return
        found = self.task.judge()
        if found.better_than(self.best):
            self.best, self.best_tensors, self.idle = found, copied(self.task.held), 0
        else:
            self.idle += 1

    def _shorten(self) -> None:
        """Do fewer steps where the time is too short for all."""
        if self.pace.seconds is None or self.step % TIMED_STEPS:
            return
        left = max(self.pace.seconds - self._seconds(), 0.0)
        possible = ranks.from_first(self.step + int(left * self._steps_per_second()))
        self.steps = min(self.steps, max(possible, self.step))

    def _report(self, batch: int) -> None:
        if self.step % REPORTED_EVERY and self.step != self.steps:
            return
        speed = self._steps_per_second()
        self.watch.progress(
            FitProgress(
                self.task.stage,
                self.task.site,
                self.step,
                self.steps,
                self._loss(),
                self.best,
                batch * speed,
                (self.steps - self.step) / speed,
            )
        )

    def _steps_per_second(self) -> float:
        return (self.step - self.begun) / max(time.monotonic() - self.started, 1e-9)

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started

    def _loss(self) -> float:
        return self.losses[-1] if self.losses else math.nan

    def _state(self) -> State:
        return {
            "step": self.step,
            "steps": self.steps,
            "idle": self.idle,
            "losses": list(self.losses),
            "scales": self.scales,
            "before": self.before and asdict(self.before),
            "best": self.best and asdict(self.best),
            "best tensors": self.best_tensors,
            "tensors": copied(self.task.held),
            "optimizer": self.optimizer.state_dict(),
            "seconds": self._seconds(),
        }

    def _load(self, state: State) -> None:
        self.step = self.begun = state["step"]
        self.steps, self.idle, self.scales = state["steps"], state["idle"], state["scales"]
        self.losses.extend(state["losses"])
        self.before, self.best = _agreement(state["before"]), _agreement(state["best"])
        self.best_tensors, self.earlier = state["best tensors"], state["seconds"]
        fill(self.task.held, state["tensors"])
        self.optimizer.load_state_dict(state["optimizer"])
        put_parts(self.optimizer)


@contextmanager
def _learning(task: FitTask) -> Iterator[None]:
    """Run a block in which a task's modules and parameters alone learn; restore all flags."""
    learning = {id(each) for parameters, _ in task.groups for each in parameters}
    active = {id(each) for module in task.learning for each in module.modules()}
    parameters, modules = list(task.model.parameters()), list(task.model.modules())
    wanted = [(each.requires_grad, each.grad) for each in parameters]
    flags = [module.training for module in modules]
    try:
        for each in parameters:
            each.requires_grad_(id(each) in learning)
        for module in modules:
            module.training = id(module) in active
        yield
    finally:
        for each, (learns, grad) in zip(parameters, wanted, strict=True):
            each.requires_grad_(learns)
            each.grad = grad
        for module, training in zip(modules, flags, strict=True):
            module.training = training


def _agreement(held: State | None) -> Agreement | None:
    return None if held is None else Agreement(**held)


def _fitted(task: FitTask, held: State) -> Fitted:
    before, after = _agreement(held["before"]), _agreement(held["after"])
    return Fitted(**{**held, "stage": task.stage, "before": before, "after": after})

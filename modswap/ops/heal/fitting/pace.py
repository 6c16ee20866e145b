"""The steps of a fit: their number, sizes and rates, and who watches them."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from modswap.core.healed.progress import FitProgress, FitWatcher
from modswap.ops.heal.fitting.resume import ResumeFile

RATE_FROM_RANDOM, RATE_FROM_CLOSED_FORM = 1e-2, 1e-3
RISE = 0.15  # share of the steps in which the rate rises
_FIRST, _LAST = 1 / 25, 1 / 25 / 10_000  # shares of the highest rate at the start and the end
_SLOW, _FAST = 0.95, 0.85  # decay of the mean gradient at the lowest and the highest rate
JUDGEMENTS = 10  # in the course of a fit


@dataclass(frozen=True, slots=True)
class Pace:
    """The steps of a fit.

    Args:
        steps: Number of steps.
        rate: The highest rate of AdamW: 1e-2 from random weights, 1e-3 from a closed form.
        batch: Samples in a step; fewer where there are fewer.
        seed: Of the order of the samples, and of all that a module draws.
        cosine: Weight of 1 - cosine in the loss, beside the error over the variance.
        every: Steps between two measurements of agreement; 0 for ten in all.
        patience: Measurements without improvement after which the fit ends.
        goal: Agreement at which it ends; None for none.
        seconds: Time for it; None for any. Fewer steps are done where it is too short for all,
            and the rate falls in time for that; such a fit does not repeat to the same bits.
    """

    steps: int
    rate: float = RATE_FROM_RANDOM
    batch: int = 64
    seed: int = 0
    cosine: float = 0.0
    every: int = 0
    patience: int = 5
    goal: float | None = None
    seconds: float | None = None

    @property
    def judged_every(self) -> int:
        """Return the steps between two measurements of agreement."""
        return self.every or max(self.steps // JUDGEMENTS, 1)


def unwatched(_: FitProgress) -> None:
    """Pass over a progress."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The watchers of a fit.

    Args:
        progress: Takes the progress every few steps.
        resume: The file that keeps the state; without it none is kept.
        every: Steps between two writes of the resume file, which is written every five seconds
            too, or every twenty times that a write takes.
    """

    progress: FitWatcher = unwatched
    resume: ResumeFile = field(default_factory=lambda: ResumeFile(None, {}))
    every: int = 100


def one_cycle(step: int, steps: int) -> tuple[float, float]:
    """Return the share of the highest rate at a step, and the decay of the mean gradient.

    They are those of `torch.optim.lr_scheduler.OneCycleLR` with `pct_start` of .15.
    """
    top = RISE * steps - 1
    if step <= top:
        return _between(_FIRST, 1.0, step / top), _between(_SLOW, _FAST, step / top)
    down = (step - top) / max(steps - 1 - top, 1e-9)
    return _between(1.0, _LAST, down), _between(_FAST, _SLOW, down)


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))


class Order:
    """The samples of each step: each once in a round, in an order of the seed and the round.

    The samples that do not fill the last batch of a round are left out of it.
    """

    def __init__(self, indices: Sequence[int], pace: Pace) -> None:
        self._indices, self._seed = indices, pace.seed
        self._batch = min(pace.batch, len(indices))
        self._turn, self._order = -1, list[int]()

    def chosen(self, step: int) -> list[int]:
        """Return the numbers of the samples of a step."""
        turn, place = divmod(step, len(self._indices) // self._batch)
        if turn != self._turn:
            generator = torch.Generator().manual_seed(seed_of_step(self._seed, -1 - turn))
            order = torch.randperm(len(self._indices), generator=generator)
            self._turn, self._order = turn, order.tolist()
        start = place * self._batch
        return [self._indices[number] for number in self._order[start : start + self._batch]]


def seed_of_step(seed: int, step: int) -> int:
    """Return the seed of a step."""
    return (seed * 1_000_003 + step) % (1 << 62)


def mixed(device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward pass: bfloat16 where a device has it, never on the CPU."""
    if device.type == "cpu" or not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)

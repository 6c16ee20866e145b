"""Drawn inputs, optimised so that every batch norm gets the statistics of its training."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any

import torch
from torch import nn

from modswap.core.errors import InputError
from modswap.core.progress import Passing, Progress, silent
from modswap.ops.heal.data.columns import TensorSamples
from modswap.ops.heal.data.drawn.norms import TrainedNorm, trained_norms
from modswap.ops.heal.data.taker import DataRequest, Key, Taker
from modswap.ops.heal.measures.passes import outputs_of
from modswap.ops.heal.samples import Samples
from modswap.ops.run.isolation import untouched
from modswap.ops.run.process_memory import available

BATCH = 32  # samples whose statistics are those of a norm together
RATE = 0.05  # of Adam, in deviations of the inputs; it falls to nothing


def optimised(
    samples: Samples, key: Key, taker: Taker, request: DataRequest, progress: Progress = silent
) -> Samples:
    """Return drawn samples after `request.optimise_steps` steps, kept in memory.

    The loss is the divergence of each norm's inputs from the statistics that it holds. Samples for
    a model whose passes reach no trained norm stay.

    Raises:
        InputError: If the samples do not fit into the memory of the machine.
    """
    steps = _Steps(taker, key, trained_norms(taker.model))
    found: list[torch.Tensor] = []
    losses: list[tuple[float, float]] = []
    began = time.monotonic()

    def until(start: int) -> float:
        """Return the time at which a batch has to be done: its share of all."""
        share = min(start + BATCH, samples.count) / samples.count
        return began + (request.optimise_seconds or inf) * share

    # the block ends behind the last gradient: it writes the buffers of the model again
    with untouched(taker.model, training=False):
        for start in range(0, samples.count, BATCH):
            progress(Passing(f"optimising drawn samples: {start:,} of {samples.count:,}"))
            batch = samples.batch(range(start, min(start + BATCH, samples.count)))
            given = batch.args[key] if isinstance(key, int) else batch.kwargs[key]
            _refuse_large(given, samples.count)
            if not steps.norms or not steps.misfits(given):
                return samples
            x, before, after = steps.run(given, request.optimise_steps, until(start))
            found.append(x)
            losses.append((before, after))
    before, after = (sum(some) / len(losses) for some in zip(*losses, strict=True))
    note = (
        f"they were optimised in {steps.said(request.optimise_steps)} to the statistics of "
        f"the batch norms, whose mean divergence fell from {before:.3g} to {after:.3g}"
    )
    description = f"{samples.description}, optimised"
    notes = (*samples.notes, note)
    return TensorSamples(taker, {key: torch.cat(found)}, samples.count, description, notes)


def _refuse_large(given: torch.Tensor, count: int) -> None:
    nbytes, free = given[0].nbytes * count, available()
    if free is not None and 2 * nbytes > free:
        what = f"optimised samples take {nbytes / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free"
        raise InputError(what, "none", "take fewer samples, or none that are optimised")


class _Steps:
    """Steps of Adam on inputs of one model."""

    def __init__(self, taker: Taker, key: Key, norms: Sequence[TrainedNorm]) -> None:
        self.taker = taker
        self.key = key
        self.norms = norms
        self.fewest: int | None = None  # steps done where the time was short

    def said(self, steps: int) -> str:
        """Return the number of steps in words."""
        if self.fewest is None:
            return f"{steps:,} steps"
        return f"{self.fewest:,} to {steps:,} steps, as the time allowed,"

    def run(
        self, given: torch.Tensor, steps: int, until: float
    ) -> tuple[torch.Tensor, float, float]:
        """Return optimised inputs, and the mean divergence before and after."""
        x = given.clone().requires_grad_()
        rate = RATE * float(given.std().clamp(min=1e-6))
        adam = torch.optim.Adam([x], rate)
        before = best = self._loss(given)
        kept = given
        for step in range(steps):
            if time.monotonic() >= until:
                self.fewest = min(step, step if self.fewest is None else self.fewest)
                break
            loss = torch.stack(self.misfits(x)).mean()
            (x.grad,) = torch.autograd.grad(loss, [x])
            if loss.item() < best:
                best, kept = loss.item(), x.detach().clone()
            adam.param_groups[0]["lr"] = rate * (1 - step / steps)
            adam.step()
        last = self._loss(x.detach())
        return (x.detach(), before, last) if last < best else (kept, before, best)

    def _loss(self, x: torch.Tensor) -> float:
        with torch.no_grad():
            return float(torch.stack(self.misfits(x)).mean())

    def misfits(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the divergence at each norm that a pass reaches."""
        batch = self.taker.batch({self.key: x})
        with _noting(self.norms) as found:
            outputs_of(self.taker.model, batch)
        return found


@contextmanager
def _noting(norms: Sequence[TrainedNorm]) -> Iterator[list[torch.Tensor]]:
    """Collect the divergences of the inputs that norms get within a block."""
    found: list[torch.Tensor] = []

    def hook(norm: TrainedNorm) -> Callable[..., None]:
        def note(_: nn.Module, args: tuple[Any, ...]) -> None:
            found.append(_divergence(norm, args[0].float()))

        return note

    handles = [norm.module.register_forward_pre_hook(hook(norm)) for norm in norms]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _divergence(norm: TrainedNorm, given: torch.Tensor) -> torch.Tensor:
    """Return the divergence of an input (N, C, …) from a norm's statistics, over all channels."""
    axes = [axis for axis in range(given.ndim) if axis != 1]
    mean, var = given.mean(axes), given.var(axes, correction=0) + norm.eps
    own = norm.var + norm.eps  # a channel without a signal has variance 0
    return ((var + (mean - norm.mean) ** 2) / own - 1 - (var / own).log()).mean()

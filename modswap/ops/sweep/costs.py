"""The cost that a swap adds: counted for the model, and timed at the site."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from modswap.core.swept.record import SweptCost
from modswap.ops.heal.passes import cloned
from modswap.ops.measure.cost import costs_of
from modswap.ops.measure.timing import TIMED_PASSES, TIMEOUT_SECONDS, latency
from modswap.ops.run.devices import devices_of, synchronize
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case

Given = tuple[Any, Any]  # the arguments of a call


def cost_of_model(model: nn.Module, case: Case, *, timed: bool) -> SweptCost:
    """Return the cost of a pass over a model; its latency is 0 where it is not timed."""
    counted = costs_of(model, case).model
    milliseconds = latency(model, case) if timed else 0.0
    return SweptCost(counted.params, counted.flops, counted.peak_inference, milliseconds)


def calls_in_pass(model: nn.Module, case: Case, modules: dict[str, nn.Module]) -> dict[str, Any]:
    """Return the arguments of every call of some modules in a pass over the dummy input."""
    found: dict[str, list[Given]] = {path: [] for path in modules}
    handles = []
    for path, module in modules.items():

        def note(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            found[path].append(cloned((args, kwargs)))

        handles.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        with ready(model, case, 0) as (args, kwargs, dtype):
            run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
    finally:
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def added_latency(old: nn.Module, new: nn.Module, calls: Sequence[Given]) -> float:
    """Return the milliseconds that a new module takes more than the old one for the same calls.

    Both run in turn, so that the machine's own changes fall on both. The fastest run of each
    counts, after one to warm up: other programs only make runs slower.
    """
    found: list[tuple[float, float]] = []
    end = time.perf_counter() + TIMEOUT_SECONDS
    for number in range(TIMED_PASSES + 1):
        pair = _seconds(old, calls), _seconds(new, calls)
        if number:
            found.append(pair)
        if found and time.perf_counter() > end:
            break
    return 1000 * (min(new for _, new in found) - min(old for old, _ in found))


def _seconds(module: nn.Module, calls: Sequence[Given]) -> float:
    devices = devices_of(module)
    given = [cloned(call) for call in calls]
    synchronize(devices)
    started = time.perf_counter()
    for args, kwargs in given:
        module(*args, **kwargs)
    synchronize(devices)
    return time.perf_counter() - started

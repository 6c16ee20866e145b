"""Time real passes over a model, on its own device."""

import statistics
import time
from collections.abc import Collection

import torch
from torch import nn

from modswap.core.decided.cost import size_text
from modswap.live_values import named_tensors, nbytes_of
from modswap.ops.measure.memory import MAX_READ_BYTES
from modswap.ops.run.devices import devices_of, synchronize
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case

TIMED_PASSES = 7
TIMEOUT_SECONDS = 3.0  # after which no further pass is timed


def unread(model: nn.Module, *, unreal: bool) -> str:
    """Return the reason why no real pass runs over a model; empty if it may run."""
    held = {id(tensor): tensor for tensor in named_tensors(model).values()}
    if any(tensor.is_meta for tensor in held.values()):
        return "the weights were not read: `modswap replace` reads them"
    nbytes = sum(map(nbytes_of, held.values()))
    if unreal and nbytes > MAX_READ_BYTES:
        return f"a real pass would read {size_text(nbytes)} of weights"
    return ""


def latency(model: nn.Module, case: Case, *, seed: int = 0) -> float:
    """Return the milliseconds that a pass takes: the median of several, after one to warm up."""
    return statistics.median(pass_times(model, case, seed=seed))


def pass_times(model: nn.Module, case: Case, *, seed: int = 0) -> list[float]:
    """Return the milliseconds that each of several passes takes, after one to warm up.

    The clock is read when the devices of the model have finished all work.
    """
    devices = devices_of(model)
    with ready(model, case, seed) as (args, kwargs, dtype):
        seconds = []
        end = time.perf_counter() + TIMEOUT_SECONDS
        for number in range(TIMED_PASSES + 1):
            started = _clock(devices)
            run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
            seconds.append(_clock(devices) - started)
            if number and time.perf_counter() > end:
                break
    return [1000 * one for one in seconds[1:]]


def _clock(devices: Collection[torch.device]) -> float:
    """Return the time in seconds, read when all devices have finished their work."""
    synchronize(devices)
    return time.perf_counter()

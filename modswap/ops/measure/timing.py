"""What only real passes tell: how long one takes, and how far the outputs move."""

import statistics
import time

from torch import nn

from modswap.core.decided.cost import size_text
from modswap.ops.measure.memory import RUN
from modswap.ops.run.devices import devices_of, synchronize
from modswap.ops.run.forward import named_tensors, ready, run_model
from modswap.ops.run.inputs import Case

ROUNDS = 7
SECONDS = 3.0  # after which no further pass is timed


def unread(model: nn.Module, *, unreal: bool) -> str:
    """Return why no real pass is run over a model; empty if one may be.

    Args:
        model: The model.
        unreal: Whether the passes before were run without data.
    """
    held = {id(tensor): tensor for tensor in named_tensors(model).values()}
    if any(tensor.is_meta for tensor in held.values()):
        return "the weights were not read: `modswap replace` reads them"
    nbytes = sum(tensor.nbytes for tensor in held.values())
    if unreal and nbytes > RUN:
        return f"a real pass would read {size_text(nbytes)} of weights"
    return ""


def latency(model: nn.Module, case: Case, *, seed: int = 0) -> float:
    """Return the milliseconds that a pass takes: the median of several, after one to warm up.

    Args:
        model: The model, on the device on which it is to be timed.
        case: The pass.
        seed: For input and model.
    """
    with ready(model, case, seed) as (args, kwargs, dtype):
        taken, devices = [], devices_of(model)
        end = time.perf_counter() + SECONDS
        for number in range(ROUNDS + 1):
            synchronize(devices)
            started = time.perf_counter()
            run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
            synchronize(devices)
            taken.append(time.perf_counter() - started)
            if number and time.perf_counter() > end:
                break
    return 1000 * statistics.median(taken[1:])

"""What only real passes tell: how long one takes, and how far the outputs move."""

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from modswap.core.cost import size_text
from modswap.ops.describe import live_tensors
from modswap.ops.examine import Bench
from modswap.ops.inputs import Case, make
from modswap.ops.memory import RUN
from modswap.ops.trace import named_tensors, pass_dtype, run_model
from modswap.ops.untouched import untouched

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
    with _ready(model, case, seed) as (args, kwargs, dtype):
        taken = []
        end = time.perf_counter() + SECONDS
        for number in range(ROUNDS + 1):
            started = time.perf_counter()
            run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
            taken.append(time.perf_counter() - started)
            if number and time.perf_counter() > end:
                break
    return 1000 * statistics.median(taken[1:])


def drift(bench: Bench) -> float:
    """Return how far the outputs of the swapped model are from those of the original.

    It is the norm of the difference over the norm of what was there, over all floating outputs of
    all passes; the worst pass counts.

    Args:
        bench: Both models.
    """
    cases, seed = bench.prepared.cases, bench.prepared.seed
    after = [_outputs(bench.model, case, seed) for case in cases]
    with bench.original() as model:
        before = [_outputs(model, case, seed) for case in cases]
    found = [_distance(old, new) for old, new in zip(before, after, strict=True)]
    return math.inf if any(map(math.isnan, found)) else max(found)


def _outputs(model: nn.Module, case: Case, seed: int) -> list[torch.Tensor]:
    with _ready(model, case, seed) as (args, kwargs, dtype):
        output = run_model(model, args, kwargs, dtype=dtype, stand_ins=None)
        floating = [tensor for tensor in live_tensors(output) if tensor.is_floating_point()]
        return [tensor.double().clone() for tensor in floating]


def _distance(before: list[torch.Tensor], after: list[torch.Tensor]) -> float:
    if len(before) != len(after):
        return math.inf
    apart = sum(float((n - o).square().sum()) for o, n in zip(before, after, strict=True))
    size = sum(float(old.square().sum()) for old in before)
    if size == 0:
        return 0.0 if apart == 0 else math.inf
    return math.sqrt(apart / size)


@contextmanager
def _ready(
    model: nn.Module, case: Case, seed: int
) -> Iterator[tuple[Any, Any, torch.dtype | None]]:
    """Give inputs and dtype of a real pass; the model is as it was afterwards."""
    dtype = pass_dtype(model, case)
    with untouched(model, training=case.mode == "train"), torch.no_grad():
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        args = make(case.call.args, generator, dtype)
        kwargs = make(case.call.kwargs, generator, dtype)
        yield args, kwargs, dtype

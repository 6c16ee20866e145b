"""Compare a swapped model with the limits of its recipe."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from modswap.core.decided.cost import judge_limits, limits_of
from modswap.core.errors import ModswapError
from modswap.core.finding import Finding
from modswap.live_values import live_tensors
from modswap.ops.examine.bench import Bench
from modswap.ops.measure.cost import costs_of
from modswap.ops.measure.timing import latency, unread
from modswap.ops.outcomes import count_params
from modswap.ops.run.describe import one_line
from modswap.ops.run.forward import ready, run_model
from modswap.ops.run.inputs import Case

OPTIONAL = "take the limit out, or allow it: `verify: {optional: [limits]}`"


def limits(bench: Bench) -> Iterator[Finding]:
    """Compare the numbers that `verify.limits` of the recipe bounds.

    It fails where one of them cannot be computed, unless `verify.optional` names `limits`. Those
    that need the weights are not compared in `check`.
    """
    asked = bench.recipe.verify.limits
    measures = _measures(bench)
    known: dict[str, float] = {}
    unknown: dict[str, str] = {}
    raised: set[str] = set()
    for name in limits_of(asked):
        try:
            value = measures[name]()
        except ModswapError:
            raise
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            value = one_line(error, 120)
            raised.add(name)
        if isinstance(value, str):
            unknown[name] = value
        else:
            known[name] = value
    lost = set() if bench.recipe.verify.may_lack("limits") else raised
    for found in judge_limits(asked, known, unknown):
        unmade = found.data["of"] in lost
        yield replace(found, status="failed", fix=OPTIONAL) if unmade else found


def _measures(bench: Bench) -> Mapping[str, Callable[[], float | str]]:
    """Return the measures by the name of the limit: each a number, or why it is unknown."""
    model, case, seed = bench.model, bench.prepared.cases[0], bench.prepared.seed
    cost = cache(lambda: costs_of(model, case, seed=seed).model)

    def read(measure: Callable[[], float]) -> float | str:
        return unread(model, unreal=bench.prepared.unreal) or measure()

    return {
        "params": lambda: count_params(model),
        "flops": lambda: cost().flops,
        "memory": lambda: cost().peak_training,
        "latency": lambda: read(lambda: latency(model, case, seed=seed)),
        "kept": lambda: _kept(bench),
        "drift": lambda: read(lambda: drift(bench)),
    }


def _kept(bench: Bench) -> float:
    """Return the share of the original's parameters that the swapped model kept."""
    now = set(bench.model.parameters())
    with bench.original() as model:
        before = list(model.parameters())
    total = sum(parameter.numel() for parameter in before)
    kept = sum(parameter.numel() for parameter in before if parameter in now)
    return kept / total if total else 1.0


def drift(bench: Bench) -> float:
    """Return how far the outputs of the swapped model are from those of the original.

    The distance is the norm of the difference over the norm of the original's outputs, over all
    floating outputs; the largest of all passes counts.
    """
    cases, seed = bench.prepared.cases, bench.prepared.seed
    after = [_outputs(bench.model, case, seed) for case in cases]
    with bench.original() as model:
        before = [_outputs(model, case, seed) for case in cases]
    found = [_distance(old, new) for old, new in zip(before, after, strict=True)]
    return math.inf if any(map(math.isnan, found)) else max(found)


def _outputs(model: nn.Module, case: Case, seed: int) -> list[torch.Tensor]:
    with ready(model, case, seed) as (args, kwargs, dtype):
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

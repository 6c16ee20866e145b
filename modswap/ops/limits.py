"""Where a swapped model stands against the limits of its recipe."""

from collections.abc import Callable, Iterator, Mapping

from modswap.core.cost import judge_limits, limits_of
from modswap.core.errors import ModswapError
from modswap.core.finding import Finding
from modswap.ops.cost import costs_of
from modswap.ops.describe import one_line
from modswap.ops.examine import Bench
from modswap.ops.latency import drift, latency, unread
from modswap.ops.swap import count_params


def limits(bench: Bench) -> Iterator[Finding]:
    """Yield a finding for each limit that the recipe sets.

    Args:
        bench: What is examined.
    """
    asked = bench.recipe.verify.limits
    known: dict[str, float] = {}
    unknown: dict[str, str] = {}
    for name in limits_of(asked):
        try:
            value = _MEASURES[name](bench)
        except ModswapError:
            raise
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            unknown[name] = one_line(error, 120)
            continue
        if isinstance(value, str):
            unknown[name] = value
        else:
            known[name] = value
    yield from judge_limits(asked, known, unknown)


def _params(bench: Bench) -> float:
    return count_params(bench.model)


def _flops(bench: Bench) -> float:
    return costs_of(bench.model, bench.prepared.cases[0], seed=bench.prepared.seed).model.flops


def _memory(bench: Bench) -> float:
    case, seed = bench.prepared.cases[0], bench.prepared.seed
    return costs_of(bench.model, case, seed=seed).model.peak_training


def _kept(bench: Bench) -> float:
    """Return which share of the original model's parameters is in the swapped one too."""
    now = {id(parameter) for parameter in bench.model.parameters()}
    with bench.original() as model:
        before = list(model.parameters())
    total = sum(parameter.numel() for parameter in before)
    kept = sum(parameter.numel() for parameter in before if id(parameter) in now)
    return kept / total if total else 1.0


def _latency(bench: Bench) -> float | str:
    reason = unread(bench.model, unreal=bench.prepared.unreal)
    return reason or latency(bench.model, bench.prepared.cases[0], seed=bench.prepared.seed)


def _drift(bench: Bench) -> float | str:
    reason = unread(bench.model, unreal=bench.prepared.unreal)
    return reason or drift(bench)


# a number, or why there is none
_MEASURES: Mapping[str, Callable[[Bench], float | str]] = {
    "params": _params,
    "flops": _flops,
    "memory": _memory,
    "latency": _latency,
    "kept": _kept,
    "drift": _drift,
}

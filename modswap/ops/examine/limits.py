"""Compare a swapped model with the limits of its recipe."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from modswap.core.decided.cost import judge_limits, limits_of
from modswap.core.errors import ModswapError
from modswap.core.finding import Finding
from modswap.ops.examine.bench import Bench
from modswap.ops.measure.cost import costs_of
from modswap.ops.measure.drift import drift_of
from modswap.ops.measure.timing import latency, unread
from modswap.ops.outcomes import count_params
from modswap.ops.run.describe import one_line

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
        "drift": lambda: read(
            lambda: drift_of(model, bench.original, bench.prepared.cases, seed).relative
        ),
    }


def _kept(bench: Bench) -> float:
    """Return the share of the original's parameters that the swapped model kept."""
    now = set(bench.model.parameters())
    with bench.original() as model:
        before = list(model.parameters())
    total = sum(parameter.numel() for parameter in before)
    kept = sum(parameter.numel() for parameter in before if parameter in now)
    return kept / total if total else 1.0

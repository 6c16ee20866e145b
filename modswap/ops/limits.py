"""Where a swapped model stands against the limits of its recipe."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from modswap.core.cost import Cost, judge_limits, limits_of
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
    measures = _Measures(bench)
    known: dict[str, float] = {}
    unknown: dict[str, str] = {}
    for name in limits_of(asked):
        try:
            value = measures.of(name)
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


class _Measures:
    """What a swapped model is measured by, each as a number or as why there is none."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._ways: Mapping[str, Callable[[], float | str]] = {
            "params": lambda: count_params(bench.model),
            "flops": lambda: self._cost.flops,
            "memory": lambda: self._cost.peak_training,
            "latency": self._latency,
            "kept": self._kept,
            "drift": self._drift,
        }

    def of(self, name: str) -> float | str:
        """Return what a limit's name stands for."""
        return self._ways[name]()

    @cached_property
    def _cost(self) -> Cost:
        prepared = self._bench.prepared
        return costs_of(self._bench.model, prepared.cases[0], seed=prepared.seed).model

    def _kept(self) -> float:
        """Return which share of the original model's parameters is in the swapped one too."""
        now = {id(parameter) for parameter in self._bench.model.parameters()}
        with self._bench.original() as model:
            before = list(model.parameters())
        total = sum(parameter.numel() for parameter in before)
        kept = sum(parameter.numel() for parameter in before if id(parameter) in now)
        return kept / total if total else 1.0

    def _latency(self) -> float | str:
        model, prepared = self._bench.model, self._bench.prepared
        reason = unread(model, unreal=prepared.unreal)
        return reason or latency(model, prepared.cases[0], seed=prepared.seed)

    def _drift(self) -> float | str:
        reason = unread(self._bench.model, unreal=self._bench.prepared.unreal)
        return reason or drift(self._bench)

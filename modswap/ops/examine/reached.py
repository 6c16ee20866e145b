"""Compare how often sites run where no hook watches them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.nn.fake_tensors import needs_values
from modswap.ops.examine.bench import Bench
from modswap.ops.measure.timing import unread
from modswap.ops.run.describe import one_line
from modswap.ops.run.devices import device_of
from modswap.ops.run.forward import input_dtype
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import untouched
from modswap.ops.run.stand_ins import fake_values
from modswap.seeds import seeded

_WATCHED = "it runs only while hooks watch it: without them the model goes another way around it"
_FASTER = (
    "torch's own encoder layers read the weights past a forward in evaluation mode: "
    "turn that off by `torch.backends.mha.set_fastpath_enabled(False)`, "
    "or swap the layer around it"
)


def reached(bench: Bench) -> Iterator[Finding]:
    """Count the runs of each site in evaluation, before and after, without a hook anywhere.

    Some models take another way where a module has hooks, so that a check by hooks changes the
    model that it checks.
    """
    case = bench.prepared.cases[0].in_mode("eval")
    olds = {path: old for path, old, _ in bench.sites}
    news = {path: new for path, _, new in bench.sites}
    unreal = bench.prepared.unreal
    with bench.original() as model:
        before = _counts(model, olds, case, bench, unreal=unreal)
        if needs_values(_raised(before)) and not unread(model, unreal=True):
            unreal = False
            before = _counts(model, olds, case, bench, unreal=unreal)
    after = _counts(bench.model, news, case, bench, unreal=unreal)
    watched = _calls_in(bench, case.mode)
    for built in bench.prepared.built:
        paths = [site.path for site in built.sites]
        first = paths[0]
        for path in paths:
            # an instance at several sites counts all its calls at each of them
            runs = _Runs(
                sum(before[each] for each in paths) if isinstance(before, Counter) else before,
                after[first] if isinstance(after, Counter) else after,
                len(watched.get(first, ())),
                same_class=type(olds[path]) is type(built.module),
            )
            yield runs.finding(path)


def _calls_in(bench: Bench, mode: str) -> Mapping[str, Sequence[Any]]:
    """Return the calls of each module in the first pass of a mode after the swap."""
    passes = zip(bench.prepared.cases, bench.after, strict=True)
    return next((trace.seen.by_path() for case, trace in passes if case.mode == mode), {})


def _raised(counts: Counter[str] | Exception) -> Exception | None:
    return counts if isinstance(counts, Exception) else None


class _Runs:
    """The numbers of runs of a site: before, now, and now with hooks; or exceptions."""

    def __init__(
        self, before: int | Exception, after: int | Exception, watched: int, *, same_class: bool
    ) -> None:
        self.before = before
        self.after = after
        self.watched = watched
        self.same_class = same_class  # old and new module are of one class

    def finding(self, path: str) -> Finding:
        """Return the finding for a site of these numbers."""
        if isinstance(self.before, Exception):
            why = "needs values" if needs_values(self.before) else "does not run without data"
            what = f"the original {why}, and none were computed: {one_line(self.before)}"
            return Finding("reached", path, "skipped", what)
        if isinstance(self.after, Exception):
            if needs_values(self.after):
                what = f"what went in needs values, and none are computed: {one_line(self.after)}"
                return Finding("reached", path, "skipped", what)
            what = f"without hooks the forward pass raised {one_line(self.after)}"
            return Finding("reached", path, "failed", what, _FASTER)
        return self._counted(path, self.before, self.after)

    def _counted(self, path: str, before: int, after: int) -> Finding:
        data = {"before": before, "after": after, "watched": self.watched}
        if not (before or after) and (self.same_class or not self.watched):
            what = "as before, the model goes around its forward in evaluation"
            return Finding("reached", path, "passed", what, data=data)
        if not after and self.watched:
            return Finding("reached", path, "failed", _WATCHED, _FASTER, data)
        if before and before != after:
            what = f"without hooks it was called {before} times, is now {after} times"
            return Finding("reached", path, "failed", what, "look at how its parent calls it", data)
        more = "" if before else "it runs now; the original went around it in evaluation"
        return Finding("reached", path, "passed", more, data=data)


def _counts(
    model: nn.Module, modules: Mapping[str, nn.Module], case: Case, bench: Bench, *, unreal: bool
) -> Counter[str] | Exception:
    """Return how often each module runs in one pass, or the exception of the pass."""
    counts: Counter[str] = Counter()
    seed = bench.prepared.seed
    with untouched(model, training=False, unreal=unreal), seeded(seed), torch.no_grad():
        for path, module in modules.items():
            vars(module)["forward"] = _counting(module.forward, path, counts)
        args, kwargs = case.call.live(seed, input_dtype(model, case), device_of(model))
        try:
            _run(model, args, kwargs, unreal=unreal)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            return error
    return counts


def _counting(forward: Callable[..., Any], path: str, counts: Counter[str]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[path] += 1
        return forward(*args, **kwargs)

    return counted


def _run(model: nn.Module, args: Any, kwargs: Any, *, unreal: bool) -> None:
    if not unreal:
        model(*args, **kwargs)
        return
    # not on the meta device: fast paths look at devices
    with fake_values(model) as (tensors, moved):
        torch.func.functional_call(model, tensors, tuple(moved(args)), moved(kwargs))

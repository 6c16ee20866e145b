"""Compare how often sites run where no hook watches them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.nn.fake_tensors import needs_values
from modswap.ops.examine.bench import Bench
from modswap.ops.measure.timing import unread
from modswap.ops.run.describe import one_line
from modswap.ops.run.devices import device_of
from modswap.ops.run.forward import pass_dtype, run_model
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import untouched
from modswap.ops.run.stand_ins import fake_values
from modswap.seeds import seeded

_WATCHED = "it runs only while hooks watch it: without them the model bypasses it"
_FASTER = (
    "torch's own encoder layers read the weights past a forward in evaluation mode: "
    "turn that off by `torch.backends.mha.set_fastpath_enabled(False)`, "
    "or swap the layer around it"
)


def reached(bench: Bench) -> Iterator[Finding]:
    """Count the runs of each site in evaluation, before and after, without a hook anywhere.

    It fails where a fast path bypasses a new module, or where the number of runs differs. Some
    models take another path where a module has hooks, so a count by hooks would not show it.
    """
    case = bench.prepared.cases[0].in_mode("eval")
    olds = {path: old for path, old, _ in bench.places}
    news = {path: new for path, _, new in bench.places}
    with bench.original():
        before, unreal = _counts_before(bench, olds, case)
    after = _counts(bench.model, news, case, bench, unreal=unreal)
    if isinstance(before, Exception) or isinstance(after, Exception):
        yield from (_not_counted(path, before, after) for path in olds)
        return
    yield from _compared(bench, before, after)


def _compared(bench: Bench, before: Counter[str], after: Counter[str]) -> Iterator[Finding]:
    """Yield the finding of each site of a model that runs before the swap and after it."""
    watched = _calls_in(bench, "eval")
    for built in bench.prepared.built:
        paths = [site.path for site in built.sites]
        for path in paths:
            # an instance at several sites counts all its calls at each of them
            data = {
                "before": sum(before[each] for each in paths),
                "after": after[paths[0]],
                "watched": len(watched.get(paths[0], ())),
            }
            same_class = type(bench.old[path]) is type(built.module)
            yield _counted(path, data, same_class=same_class)


def _counts_before(
    bench: Bench, olds: Mapping[str, nn.Module], case: Case
) -> tuple[Counter[str] | Exception, bool]:
    """Return the counts of the original, and whether its pass ran without data."""
    unreal = bench.prepared.unreal
    before = _counts(bench.model, olds, case, bench, unreal=unreal)
    raised = before if isinstance(before, Exception) else None
    if not needs_values(raised) or unread(bench.model, unreal=True):
        return before, unreal
    return _counts(bench.model, olds, case, bench, unreal=False), False


def _calls_in(bench: Bench, mode: str) -> Mapping[str, Sequence[Any]]:
    """Return the calls of each module in the first pass of a mode after the swap."""
    passes = zip(bench.prepared.cases, bench.after, strict=True)
    return next((trace.seen.by_path() for case, trace in passes if case.mode == mode), {})


def _not_counted(
    path: str, before: Counter[str] | Exception, after: Counter[str] | Exception
) -> Finding:
    """Return the finding for a site of a model that raises, before the swap or after it."""
    if isinstance(before, Exception):
        why = "needs values" if needs_values(before) else "does not run without data"
        what = f"the original {why}, and none were computed: {one_line(before)}"
        return Finding("reached", path, "skipped", what)
    error = cast("Exception", after)
    if needs_values(error):
        what = f"the new module needs values, and none are computed: {one_line(error)}"
        return Finding("reached", path, "skipped", what)
    what = f"without hooks the forward pass raised {one_line(error)}"
    return Finding("reached", path, "failed", what, _FASTER)


def _counted(path: str, data: Mapping[str, int], *, same_class: bool) -> Finding:
    """Return the finding for a site from its numbers of runs: before, after, and with hooks."""
    before, after, watched = data.values()
    if not (before or after) and (same_class or not watched):
        what = "as before, the model bypasses its forward in evaluation"
        return Finding("reached", path, "passed", what, data=data)
    if not after and watched:
        return Finding("reached", path, "failed", _WATCHED, _FASTER, data)
    if before and before != after:
        what = f"without hooks it was called {before} times, is now {after} times"
        return Finding("reached", path, "failed", what, "look at how its parent calls it", data)
    more = "" if before else "it runs now; the original bypassed it in evaluation"
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
        dtype = pass_dtype(model, case)
        args, kwargs = case.call.live(seed, dtype, device_of(model))
        # not on the meta device, as fast paths depend on the device
        stand_ins = fake_values if unreal else None
        try:
            run_model(model, args, kwargs, dtype=dtype, stand_ins=stand_ins)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            return error
    return counts


def _counting(forward: Callable[..., Any], path: str, counts: Counter[str]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[path] += 1
        return forward(*args, **kwargs)

    return counted

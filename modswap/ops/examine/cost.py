"""Compare FLOPs, parameters and memory before and after a swap."""

from collections.abc import Iterator

from modswap.core.decided.cost import cost_finding
from modswap.core.finding import Finding
from modswap.ops.examine.alone.likeness import first_alike
from modswap.ops.examine.bench import Bench
from modswap.ops.measure.cost import costs_of


def cost(bench: Bench) -> Iterator[Finding]:
    """Report the cost of the model before and after, then that of each site alone.

    Parameters, FLOPs, activations and the peak memory of a pass and of a training step are
    counted; it never fails. Of sites that are alike the first is run.
    """
    case, seed = bench.prepared.cases[0], bench.prepared.seed
    firsts = first_alike(bench)
    sites = [(path, old, new) for path, old, new in bench.sites if firsts[path] == path]
    after = costs_of(bench.model, case, {path: new for path, _, new in sites}, seed=seed)
    with bench.original() as model:
        before = costs_of(model, case, {path: old for path, old, _ in sites}, seed=seed)
    yield cost_finding("", before.model, after.model)
    for path, first in firsts.items():
        reason = before.unknown.get(first) or after.unknown.get(first)
        if reason is not None:
            yield Finding("cost", path, "skipped", f"it cannot run by itself: {reason}")
        else:
            yield cost_finding(path, before.sites[first], after.sites[first])

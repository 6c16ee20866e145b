"""Compare FLOPs, parameters and memory before and after a swap."""

from collections.abc import Iterator

from modswap.core.decided.cost import cost_finding
from modswap.core.finding import Finding
from modswap.ops.examine.bench import Bench
from modswap.ops.measure.cost import costs_of


def cost(bench: Bench) -> Iterator[Finding]:
    """Report the cost of the model before and after, then that of each site alone.

    Parameters, FLOPs, activations and the peak memory of a pass and of a training step are
    counted; it never fails.
    """
    case, seed = bench.prepared.cases[0], bench.prepared.seed
    after = costs_of(bench.model, case, {p: new for p, _, new in bench.sites}, seed=seed)
    with bench.original() as model:
        before = costs_of(model, case, {p: old for p, old, _ in bench.sites}, seed=seed)
    yield cost_finding("", before.model, after.model)
    for path, _, _ in bench.sites:
        reason = before.unknown.get(path) or after.unknown.get(path)
        if reason is not None:
            yield Finding("cost", path, "skipped", f"it cannot run by itself: {reason}")
        else:
            yield cost_finding(path, before.sites[path], after.sites[path])

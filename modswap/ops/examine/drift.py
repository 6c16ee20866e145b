"""Report how far the outputs of a swapped model are from those of the original."""

from collections.abc import Iterator
from math import isfinite

from modswap.core.finding import Finding
from modswap.ops.examine.bench import Bench
from modswap.ops.measure.drift import drift_of
from modswap.ops.measure.timing import unread

UNREAL = "no values were computed: `modswap replace` measures it"
RESIZED = "outputs have other sizes than before: they cannot be compared"


def drift(bench: Bench) -> Iterator[Finding]:
    """Report the relative distance of the outputs from those of the original on the dummy input.

    For logits, (N, classes), it also counts the rows whose largest value is in the same place. It
    never fails: `verify.limits.max_drift` sets a limit. `check` computes no values, and so has no
    drift.
    """
    prepared = bench.prepared
    reason = unread(bench.model, unreal=prepared.unreal) or (UNREAL if prepared.unreal else "")
    if reason:
        yield Finding("drift", "", "skipped", reason)
        return
    found = drift_of(bench.model, bench.original, prepared.cases, prepared.seed)
    if found.resized:
        yield Finding("drift", "", "skipped", RESIZED)
        return
    # JSON has no infinity
    relative = found.relative if isfinite(found.relative) else None
    data = {"relative": relative, "rows": found.rows, "agreeing": found.agreeing}
    yield Finding("drift", "", "passed", found.text, data=data)

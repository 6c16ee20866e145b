"""Examine whether the same input gives the same output twice in evaluation mode."""

from collections.abc import Iterator

from modswap.core.decided.dependence import InputChange
from modswap.core.finding import Finding
from modswap.ops.examine.alone.movement import relative_change
from modswap.ops.examine.alone.pair import Pair, outputs_of
from modswap.ops.examine.alone.sites import finding_of, pairs
from modswap.ops.examine.bench import Bench


def determinism(bench: Bench) -> Iterator[Finding]:
    """Find outputs that differ from call to call in evaluation mode, as the original's do not."""
    for pair in pairs(bench):
        yield finding_of("determinism", pair, _of_pair, bench)


def _of_pair(pair: Pair) -> Finding:
    old, new = (
        relative_change(outputs_of(module, pair.inputs), outputs_of(module, pair.inputs, seed=1))
        for module in (pair.old, pair.new)
    )
    if not InputChange("seed", old, new).gained:
        return Finding("determinism", pair.path, "passed")
    what = "in evaluation mode the same input gives another output each time, as it did not before"
    fix = "draw only where `self.training` says so"
    return Finding("determinism", pair.path, "failed", what, fix, {"change": new})

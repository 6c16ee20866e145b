"""Examine whether one input gives one output in evaluation mode."""

from modswap.core.decided.dependence import Moves
from modswap.core.finding import Finding
from modswap.ops.examine.alone.movement import strength
from modswap.ops.examine.alone.pair import Rehearsal, perform


def determinism(on: Rehearsal) -> Finding:
    """Find outputs that differ from call to call in evaluation mode, as the original's do not."""
    old, new = (
        strength(perform(one, on.inputs), perform(one, on.inputs, seed=1), lambda t: t)
        for one in (on.old, on.new)
    )
    if not Moves("chance", old, new).gained:
        return Finding("determinism", on.path, "passed")
    what = "in evaluation mode the same input gives another output each time, as it did not before"
    fix = "draw only where `self.training` says so"
    return Finding("determinism", on.path, "failed", what, fix, {"change": new})

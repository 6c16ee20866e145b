"""Examine whether outputs are finite where the original's are."""

from modswap.core.finding import Finding
from modswap.ops.examine.alone.pair import Rehearsal, perform
from modswap.ops.run.describe import all_finite


def breaks(on: Rehearsal) -> bool:
    """Return whether the new module's output is not finite, and the original's is.

    Args:
        on: A site's modules and a call for them.
    """
    old, new = (all_finite(perform(one, on.inputs)) for one in (on.old, on.new))
    return old and not new


def finite(on: Rehearsal) -> Finding:
    """Find outputs that are not finite where the original's are."""
    if not all_finite(perform(on.old, on.inputs)):
        what = "the original's output is not finite either, on random weights"
        return Finding("finite", on.path, "skipped", what)
    if not breaks(on):
        return Finding("finite", on.path, "passed")
    what = "the output is not finite for normal inputs; the original's was"
    return Finding("finite", on.path, "failed", what, "look for a division or a logarithm by zero")

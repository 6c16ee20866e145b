"""Examine whether new modules run on real values, and whether their outputs are finite."""

from collections.abc import Iterator

from modswap.core.finding import Finding
from modswap.ops.examine.alone.pair import Pair, loses_finite, outputs_of
from modswap.ops.examine.alone.sites import finding_of, pairs, whole_model
from modswap.ops.examine.bench import Bench
from modswap.ops.run.describe import all_finite


def finite(bench: Bench) -> Iterator[Finding]:
    """Find new modules that raise, or whose outputs are not finite where the original's are."""
    for pair in pairs(bench):
        yield finding_of("finite", pair, _of_pair, bench, compares=False)
    yield finding_of("finite", whole_model(bench), _of_pair, bench, compares=False)


def _of_pair(pair: Pair) -> Finding:
    if not all_finite(outputs_of(pair.old, pair.inputs)):
        what = "the original's output is not finite either, on random weights"
        return Finding("finite", pair.path, "skipped", what)
    if not loses_finite(pair):
        return Finding("finite", pair.path, "passed")
    what = "the output is not finite for normal inputs; the original's was"
    fix = "look for a division or a logarithm by zero"
    return Finding("finite", pair.path, "failed", what, fix)

"""Examine whether the same input gives the same output twice in evaluation mode."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from modswap.core.decided.dependence import InputChange
from modswap.core.finding import Finding
from modswap.ops.examine.alone.cuda_order import Operation, unordered
from modswap.ops.examine.alone.movement import relative_change
from modswap.ops.examine.alone.pair import Pair, outputs_of
from modswap.ops.examine.alone.sites import finding_of, pairs
from modswap.ops.examine.bench import Bench


def determinism(bench: Bench) -> Iterator[Finding]:
    """Find outputs that differ from call to call in evaluation mode, as the original's do not.

    Operations of a training pass that add in any order on a GPU, as torch documents them, are
    named where the original has none of the kind; no GPU is needed, and they do not fail.
    """
    for pair in pairs(bench):
        yield finding_of("determinism", pair, _of_pair, bench)


def _of_pair(pair: Pair) -> Finding:
    old, new = (
        relative_change(outputs_of(module, pair.inputs), outputs_of(module, pair.inputs, seed=1))
        for module in (pair.old, pair.new)
    )
    if not InputChange("seed", old, new).gained:
        return _on_a_gpu(pair)
    what = "in evaluation mode the same input gives another output each time, as it did not before"
    fix = "draw only where `self.training` says so"
    return Finding("determinism", pair.path, "failed", what, fix, {"change": new})


def _on_a_gpu(pair: Pair) -> Finding:
    """Return a finding that names what is not deterministic on CUDA, and was not used before."""
    passed = Finding("determinism", pair.path, "passed")
    with suppress(Exception):  # other examinations report what it raises
        found = unordered(pair.new, pair.inputs)
        known = unordered(pair.old, pair.inputs) if found else ()
        gained = [one for one in found if one not in known]
        if gained:
            words = "; ".join(_words(one) for one in gained)
            data = {"cuda": [one.name for one in gained]}
            return replace(passed, what=f"not deterministic on CUDA: {words}", data=data)
    return passed


def _words(operation: Operation) -> str:
    refused = "" if not operation.refused else ", which deterministic algorithms refuse; instead"
    return f"{operation.name}{refused or ':'} {operation.instead}"

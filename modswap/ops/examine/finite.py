"""Examine whether new modules run on real values, and whether their outputs are finite."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.ops.examine.alone.magnitudes import Sizes, magnitudes, scaled
from modswap.ops.examine.alone.pair import Pair, loses_finite, outputs_of
from modswap.ops.examine.alone.sites import finding_of, pairs, whole_model
from modswap.ops.examine.bench import Bench
from modswap.ops.run.describe import all_finite

SCALE_FIRST = "scale queries before the product, or compute it in float32"


def finite(bench: Bench) -> Iterator[Finding]:
    """Find new modules that raise, or whose outputs are not finite where the original's are.

    The inputs are normal, then of the magnitude that the site's have in the model: as a pass over
    its own weights shows, or as its normalisation layers say where no weights are read. The latter
    are also run under autocast to float16, unless `verify.precisions` has neither.
    """
    for pair in pairs(bench):
        check = partial(_of_site, bench)  # at the magnitudes of each site
        yield finding_of("finite", pair, check, bench, compares=False, shares=False)
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


def _of_site(bench: Bench, pair: Pair) -> Finding:
    found = _of_pair(pair)
    if found.status != "passed":
        return found
    sizes = magnitudes(bench, pair.path)
    leaves = scaled(pair.inputs.leaves, sizes)
    halves = {"float16", "autocast"} & {*bench.recipe.verify.precisions}
    if _overflows(pair, leaves, nullcontext()):
        return _too_large(pair, sizes, "")
    if halves and _overflows(pair, leaves, torch.autocast("cpu", torch.float16)):
        return _too_large(pair, sizes, " under autocast to float16")
    return found


def _overflows(
    pair: Pair, leaves: Sequence[torch.Tensor], precision: AbstractContextManager[object]
) -> bool:
    """Return whether the new module's outputs alone are not finite."""
    try:
        with precision:
            return not _finite(pair.new, pair, leaves) and _finite(pair.old, pair, leaves)
    except Exception:  # noqa: BLE001 - the CPU may lack an operation in float16
        return False


def _finite(module: nn.Module, pair: Pair, leaves: Sequence[torch.Tensor]) -> bool:
    return all_finite(outputs_of(module, pair.inputs, leaves))


def _too_large(pair: Pair, sizes: Sizes, where: str) -> Finding:
    size = max(sizes, default=1.0)
    what = (
        f"the output is not finite{where} for inputs as large as the site's in the model, "
        f"{size:.3g} on average; the original's was"
    )
    return Finding("finite", pair.path, "failed", what, SCALE_FIRST, {"magnitude": size})

"""Examine whether the samples of a batch change one another's output."""

from torch import nn

from modswap.core.decided.dependence import Moves
from modswap.core.finding import Finding
from modswap.ops.examine.alone.inputs import is_mask
from modswap.ops.examine.alone.movement import along, strength
from modswap.ops.examine.alone.pair import Rehearsal, perform
from modswap.ops.examine.alone.tokens import WHOLE_NUMBERS


def independence(on: Rehearsal) -> Finding:
    """Find samples of a batch that change one another's output, as they did not before."""
    if on.refused:
        what = f"a batch of {on.batch} is refused, which the original takes: {on.refused}"
        return Finding("independence", on.path, "failed", what, "let it take any batch")
    if on.batch < 2:
        what = "no axis is known to be the batch, or the original takes a single sample only"
        return Finding("independence", on.path, "skipped", what)
    old, new = (_mixing(one, on) for one in (on.old, on.new))
    if not Moves("a sample", old, new).gained:
        return Finding("independence", on.path, "passed")
    what = "sample 0 of a batch changes the output of other samples, as it did not before"
    fix = "look for an operation over the batch axis; a layout that is not the site's does it too"
    return Finding("independence", on.path, "failed", what, fix, {"change": new})


def _mixing(module: nn.Module, on: Rehearsal) -> float:
    inputs = on.inputs
    batched_leaves = [
        index
        for index in sorted(set(inputs.same))
        if inputs.leaves[index].shape[on.axis : on.axis + 1] == (on.batch,)
    ]
    whole = [
        index
        for index in batched_leaves
        if inputs.leaves[index].dtype in WHOLE_NUMBERS
        and not is_mask(inputs.leaves[index], inputs.labels[index])
    ]
    told = [i for i in batched_leaves if i in whole or inputs.leaves[i].is_floating_point()]
    leaves = inputs.changed_together(told, slice(0, 1), on.axis, flip=whole)
    base, now = perform(module, on.inputs), perform(module, on.inputs, leaves)
    batched = [
        pair
        for pair in zip(base, now, strict=True)
        if pair[0].shape[on.axis : on.axis + 1] == (on.batch,)
    ]
    others = along(on.axis, slice(1, None))
    return strength([a for a, _ in batched], [b for _, b in batched], others)

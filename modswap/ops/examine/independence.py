"""Examine whether the samples of a batch change the outputs of other samples."""

from collections.abc import Iterator

from torch import nn

from modswap.core.decided.dependence import CLEAR_RATIO, InputChange
from modswap.core.finding import Finding
from modswap.ops.examine.alone.inputs import CallInputs, is_mask
from modswap.ops.examine.alone.movement import along, relative_change
from modswap.ops.examine.alone.pair import Pair, outputs_of
from modswap.ops.examine.alone.sites import along_second_axis, finding_of, pairs, whole_model
from modswap.ops.examine.alone.tokens import WHOLE_NUMBERS
from modswap.ops.examine.bench import Bench


def independence(bench: Bench) -> Iterator[Finding]:
    """Find samples of a batch that change the outputs of others as they did not before."""
    for pair in pairs(bench):
        yield finding_of("independence", pair, _of_pair, bench)
    yield finding_of("independence", whole_model(bench), _of_pair, bench)


def _of_pair(pair: Pair) -> Finding:
    if pair.refused:
        what = f"a batch of {pair.batch} is refused, which the original takes: {pair.refused}"
        return Finding("independence", pair.path, "failed", what, "let it take any batch")
    if pair.batch < 2:
        what = "no axis is known to be the batch, or the original takes a single sample only"
        return Finding("independence", pair.path, "skipped", what)
    old, new = (_change_of_others(module, pair, pair.batch_axis) for module in (pair.old, pair.new))
    if InputChange("sample 0", old, new).gained:
        what = "sample 0 of a batch changes the output of other samples, as it did not before"
        fix = "look for an operation over the batch axis; "
        fix += "a layout that is not the site's does it too"
        return Finding("independence", pair.path, "failed", what, fix, {"change": new})
    if not pair.path and (old > CLEAR_RATIO or not _returns_batch(pair)):
        return _of_second_axis(pair)
    return Finding("independence", pair.path, "passed")


def _returns_batch(pair: Pair) -> bool:
    """Return whether an output of the original has the batch as its first axis."""
    sizes = [output.shape[:1] for output in outputs_of(pair.old, pair.inputs)]
    return (pair.batch,) in sizes


def _of_second_axis(pair: Pair) -> Finding:
    """Return the finding on a model whose first axis is no batch; its second one may be.

    Models of sequences may take (length, batch, channels) and return one value for each sample.
    """
    second = along_second_axis(pair)
    if second is None:
        return Finding("independence", pair.path, "passed")
    for axis in (1, 0):
        old, new = (_change_of_others(one, second, axis) for one in (second.old, second.new))
        if InputChange("sample 0", old, new).gained:
            what = "sample 0 along the second axis, the batch of this model, changes the output of "
            what += "other samples, as it did not before"
            fix = "the site's tokens are (length, batch, channels), which no layout says: swap in "
            fix += "a class of yours that takes them so, or build the model with `batch_first=True`"
            return Finding("independence", pair.path, "failed", what, fix, {"change": new})
    return Finding("independence", pair.path, "passed")


def _is_whole(inputs: CallInputs, index: int) -> bool:
    """Return whether a tensor holds whole numbers and is no mask."""
    leaf = inputs.leaves[index]
    return leaf.dtype in WHOLE_NUMBERS and not is_mask(leaf, inputs.labels[index])


def _change_of_others(module: nn.Module, pair: Pair, out_axis: int) -> float:
    """Return how far the outputs of other samples along an axis change with sample 0."""
    inputs, axis = pair.inputs, pair.batch_axis
    batched = [
        index
        for index in sorted(set(inputs.same))
        if inputs.leaves[index].shape[axis : axis + 1] == (pair.batch,)
    ]
    whole = [index for index in batched if _is_whole(inputs, index)]
    varied = [i for i in batched if i in whole or inputs.leaves[i].is_floating_point()]
    leaves = inputs.changed_together(varied, slice(0, 1), axis, flip=whole)
    outputs = zip(outputs_of(module, inputs), outputs_of(module, inputs, leaves), strict=True)
    both = [
        (old, new) for old, new in outputs if old.shape[out_axis : out_axis + 1] == (pair.batch,)
    ]
    others = along(out_axis, slice(1, None))
    return relative_change([old for old, _ in both], [new for _, new in both], others)

"""Find outputs that depend on later tokens, or on tokens that a mask hides."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from modswap.core.decided.dependence import CLEAR_RATIO, STILL_RATIO, is_causal
from modswap.ops.examine.alone.inputs import CallInputs, is_mask
from modswap.ops.examine.alone.movement import Part, along, relative_change
from modswap.ops.examine.alone.pair import Pair, outputs_of

MIN_TOKENS = 3  # of a sequence
MASKED_TOKEN = 1  # index; the first may be a class token, which other tokens see in other ways
MASKED = slice(MASKED_TOKEN, MASKED_TOKEN + 1)
WHOLE_NUMBERS = {torch.int64, torch.int32}


class Row(NamedTuple):
    """The tokens of a call."""

    leaf: int  # index of the tensor that holds them
    axis: int
    length: int


class Leak(NamedTuple):
    """A token that changes an output which it must not change."""

    axis: int  # of the tokens
    token: int
    output: int | None  # None where there is no output for each token


def seen_from_before(pair: Pair) -> Leak | None:
    """Return a token that changes an earlier output of the new module, where the old is causal."""
    # an output whose tokens are all masked may depend on all: other masks may show causality
    for each in (pair, _masked(pair, torch.ones_like), _masked(pair, torch.zeros_like)):
        outputs = outputs_of(each.old, each.inputs) if each is not None else []
        if each is None or not outputs or not bool(torch.isfinite(outputs[0]).all()):
            continue
        for row in _rows(each):
            if _per_token(outputs, row) and _is_causal(each, row):
                return _ahead(each, row)
    return None


def seen_through_mask(pair: Pair) -> Leak | None:
    """Return a token that a mask hides from other outputs of the old module and not of the new."""
    lengths = {leaf.shape[-1:] for leaf in _masks(pair.inputs)}
    rows = (row for row in _rows(pair) if (row.length,) in lengths)
    found = (_seen_in_stripes(pair, row) for row in rows)
    return next((leak for leak in found if leak is not None), None)


def _seen_in_stripes(pair: Pair, row: Row) -> Leak | None:
    """Return a token that one of two masks of stripes hides in the old module alone."""
    masked = [_masked(pair, partial(_striped, first)) for first in (0, 1)]
    both = [(each, _others(each.old, each, row)) for each in masked if each is not None]
    # the mask hides it, and not another cause, if the other mask shows it
    if max(change for _, change in both) <= CLEAR_RATIO:
        return None
    for each, change in both:
        if change <= STILL_RATIO and _others(each.new, each, row) > CLEAR_RATIO:
            return _through(each, row)
    return None


def _rows(pair: Pair) -> Iterator[Row]:
    """Yield the tokens of floating (N, L, C) and of whole numbers (N, L); N may be elsewhere."""
    inputs = pair.inputs
    held = [
        (index, leaf)
        for index, leaf in enumerate(inputs.leaves)
        if inputs.same[index] == index and not is_mask(leaf, inputs.labels[index])
    ]
    floating = [(index, leaf) for index, leaf in held if leaf.is_floating_point()][:1]
    yield from _rows_of(floating, 3, pair.batch_axis)
    whole = [(index, leaf) for index, leaf in held if leaf.dtype in WHOLE_NUMBERS]
    yield from _rows_of(whole, 2, pair.batch_axis)


def _rows_of(leaves: list[tuple[int, torch.Tensor]], ndim: int, batch_axis: int) -> Iterator[Row]:
    """Yield the tokens along each axis of tensors with a number of axes."""
    for index, leaf in leaves:
        for axis, length in enumerate(leaf.shape if leaf.ndim == ndim else ()):
            if length >= MIN_TOKENS and axis != batch_axis:
                yield Row(index, axis, length)


def _per_token(outputs: list[torch.Tensor], row: Row) -> bool:
    return outputs[0].shape[row.axis : row.axis + 1] == (row.length,)


def _change(module: nn.Module, pair: Pair, row: Row, tokens: slice, part: Part) -> float:
    """Return how far a part of the first output changes with some tokens."""
    base = outputs_of(module, pair.inputs)
    now = outputs_of(module, pair.inputs, _tokens(pair.inputs, row, tokens))
    return relative_change(base[:1], now[:1], part)


def _is_causal(pair: Pair, row: Row) -> bool:
    back = []
    for cut in sorted({1, row.length // 2}):
        part = along(row.axis, slice(0, cut))
        back.append(_change(pair.old, pair, row, slice(cut, None), part))
        if back[-1] > STILL_RATIO:
            return False
    forward = _change(pair.old, pair, row, slice(0, 1), along(row.axis, slice(1, None)))
    return is_causal(back, forward)


def _ahead(pair: Pair, row: Row) -> Leak | None:
    base = outputs_of(pair.new, pair.inputs)
    for token in sorted({row.length // 2, row.length - 1, 1}, reverse=True):
        tokens = slice(token, token + 1)
        now = outputs_of(pair.new, pair.inputs, _tokens(pair.inputs, row, tokens))
        for output in range(token - 1, -1, -1):
            part = along(row.axis, slice(output, output + 1))
            changes = relative_change(base[:1], now[:1], part) > CLEAR_RATIO
            if changes and _change(pair.old, pair, row, tokens, part) <= STILL_RATIO:
                return Leak(row.axis, token, output)
    return None


def _others(module: nn.Module, pair: Pair, row: Row) -> float:
    """Return how far the outputs of later tokens, or outputs without tokens, change with a token.

    The first output is left out: in a causal module a mask may hide every token from it.
    """
    outputs = outputs_of(module, pair.inputs)
    if not outputs or not bool(torch.isfinite(outputs[0]).all()):
        return 0.0
    later = along(row.axis, slice(MASKED_TOKEN + 1, None))
    part: Part = later if _per_token(outputs, row) else lambda tensor: tensor
    return _change(module, pair, row, MASKED, part)


def _through(pair: Pair, row: Row) -> Leak:
    if not _per_token(outputs_of(pair.new, pair.inputs), row):
        return Leak(row.axis, MASKED_TOKEN, None)

    def change(output: int) -> float:
        part = along(row.axis, slice(output, output + 1))
        return _change(pair.new, pair, row, MASKED, part)

    return Leak(row.axis, MASKED_TOKEN, max(range(MASKED_TOKEN + 1, row.length), key=change))


def _masks(inputs: CallInputs) -> list[torch.Tensor]:
    pairs = zip(inputs.leaves, inputs.labels, strict=True)
    return [leaf for leaf, label in pairs if is_mask(leaf, label)]


def _masked(pair: Pair, made: Callable[[torch.Tensor], torch.Tensor]) -> Pair | None:
    """Return a pair with other masks; None if it has none."""
    inputs = pair.inputs
    if not _masks(inputs):
        return None
    leaves = tuple(
        made(leaf) if is_mask(leaf, label) else leaf
        for leaf, label in zip(inputs.leaves, inputs.labels, strict=True)
    )
    return replace(pair, inputs=replace(inputs, leaves=leaves, outputs={}))


def _striped(first: int, mask: torch.Tensor) -> torch.Tensor:
    """Return a mask of 0 and 1 in turns along its last axis."""
    if not mask.ndim:
        return mask
    row = (torch.arange(mask.shape[-1]) + first) % 2
    return row.to(mask.dtype).expand(mask.shape).clone()


def _tokens(inputs: CallInputs, row: Row, part: slice) -> tuple[torch.Tensor, ...]:
    """Return the leaves with other tokens, also in floating ones of the same shape."""
    main = inputs.leaves[row.leaf]
    if not main.is_floating_point():
        return inputs.changed(row.leaf, part, row.axis, flip=True)
    alike = [
        index
        for index in sorted(set(inputs.same))
        if inputs.leaves[index].shape == main.shape and inputs.leaves[index].is_floating_point()
    ]
    return inputs.changed_together(alike, part, row.axis)

"""Which tokens a module's output sees: later ones, and those that a mask hides."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from modswap.core.decided.dependence import CLEAR, STILL, is_causal
from modswap.ops.examine.alone.inputs import Inputs, is_mask
from modswap.ops.examine.alone.movement import Part, along, strength
from modswap.ops.examine.alone.pair import Rehearsal, perform

FEWEST = 3  # tokens that make a sequence
PROBED = 1  # the token that masks hide: a class token, the first, is seen in other ways

WHOLE_NUMBERS = {torch.int64, torch.int32}


class Row(NamedTuple):
    """The tokens of a call.

    Args:
        leaf: Index of the tensor that holds them.
        axis: Axis that they lie along.
        length: How many.
    """

    leaf: int
    axis: int
    length: int


class Seen(NamedTuple):
    """A token that changes an output that it must not change.

    Args:
        axis: Axis of the tokens.
        token: Its index.
        output: Index of the output; None where outputs are not one for each token.
    """

    axis: int
    token: int
    output: int | None


def seen_from_before(on: Rehearsal) -> Seen | None:
    """Return a token that changes an earlier output of the new module, where the old is causal.

    Args:
        on: A site's modules, or two models, and a call for them.
    """
    # an output that a mask hides everything from may see all: without one it may be causal
    for each in (on, _masked(on, torch.ones_like), _masked(on, torch.zeros_like)):
        outputs = perform(each.old, each.inputs) if each is not None else []
        if each is None or not outputs or not bool(torch.isfinite(outputs[0]).all()):
            continue
        for row in _rows(each):
            if _per_token(outputs, row) and _is_causal(each, row):
                return _ahead(each, row)
    return None


def seen_through_mask(on: Rehearsal) -> Seen | None:
    """Return a token that a mask hides from other outputs of the old module and not of the new.

    Args:
        on: A site's modules, or two models, and a call for them.
    """
    for row in _rows(on):
        if not any(leaf.shape[-1:] == (row.length,) for leaf in _masks(on.inputs)):
            continue
        phases = [_masked(on, partial(_striped, first)) for first in (0, 1)]
        both = [(one, _others(one.old, one, row)) for one in phases if one is not None]
        # hidden by the mask, and not for another reason: seen where the mask is the other one
        if max(change for _, change in both) > CLEAR:
            for one, change in both:
                if change <= STILL and _others(one.new, one, row) > CLEAR:
                    return _through(one, row)
    return None


def _rows(on: Rehearsal) -> Iterator[Row]:
    """Yield what holds tokens: a floating (N, L, C), whole numbers (N, L); N may be elsewhere."""
    inputs = on.inputs
    kinds = [
        (index, leaf)
        for index, leaf in enumerate(inputs.leaves)
        if inputs.same[index] == index and not is_mask(leaf, inputs.labels[index])
    ]
    first = [(i, leaf) for i, leaf in kinds if leaf.is_floating_point()][:1]
    floating = [(i, leaf) for i, leaf in first if leaf.ndim == 3]
    whole = [(i, leaf) for i, leaf in kinds if leaf.ndim == 2 and leaf.dtype in WHOLE_NUMBERS]
    for index, leaf in (*floating, *whole):
        for axis, length in enumerate(leaf.shape):
            if length >= FEWEST and axis != on.axis:
                yield Row(index, axis, length)


def _per_token(outputs: list[torch.Tensor], row: Row) -> bool:
    return outputs[0].shape[row.axis : row.axis + 1] == (row.length,)


def _change(module: nn.Module, on: Rehearsal, row: Row, tokens: slice, part: Part) -> float:
    """Return how far a part of the first output moves with some tokens."""
    base = perform(module, on.inputs)
    now = perform(module, on.inputs, _tokens(on.inputs, row, tokens))
    return strength(base[:1], now[:1], part)


def _is_causal(on: Rehearsal, row: Row) -> bool:
    back = []
    for cut in sorted({1, row.length // 2}):
        part = along(row.axis, slice(0, cut))
        back.append(_change(on.old, on, row, slice(cut, None), part))
        if back[-1] > STILL:
            return False
    forward = _change(on.old, on, row, slice(0, 1), along(row.axis, slice(1, None)))
    return is_causal(back, forward)


def _ahead(on: Rehearsal, row: Row) -> Seen | None:
    base = perform(on.new, on.inputs)
    for token in sorted({row.length // 2, row.length - 1, 1}, reverse=True):
        now = perform(on.new, on.inputs, _tokens(on.inputs, row, slice(token, token + 1)))
        for output in range(token - 1, -1, -1):
            part = along(row.axis, slice(output, output + 1))
            moves = strength(base[:1], now[:1], part) > CLEAR
            if moves and not _moved_before(on, row, token, part):
                return Seen(row.axis, token, output)
    return None


def _moved_before(on: Rehearsal, row: Row, token: int, part: Part) -> bool:
    """Return whether a token moves a part of the old module's output as well."""
    return _change(on.old, on, row, slice(token, token + 1), part) > STILL


def _others(module: nn.Module, on: Rehearsal, row: Row) -> float:
    """Return how far the outputs of later tokens, or those not of tokens, move with one.

    The first output is left out: of a causal module a mask may hide everything from it.
    """
    outputs = perform(module, on.inputs)
    if not outputs or not bool(torch.isfinite(outputs[0]).all()):
        return 0.0
    later = along(row.axis, slice(PROBED + 1, None))
    part: Part = later if _per_token(outputs, row) else lambda tensor: tensor
    return _change(module, on, row, slice(PROBED, PROBED + 1), part)


def _through(on: Rehearsal, row: Row) -> Seen:
    if not _per_token(perform(on.new, on.inputs), row):
        return Seen(row.axis, PROBED, None)
    changes = {
        output: _change(
            on.new,
            on,
            row,
            slice(PROBED, PROBED + 1),
            along(row.axis, slice(output, output + 1)),
        )
        for output in range(PROBED + 1, row.length)
    }
    return Seen(row.axis, PROBED, max(changes, key=lambda output: changes[output]))


def _masks(inputs: Inputs) -> list[torch.Tensor]:
    pairs = zip(inputs.leaves, inputs.labels, strict=True)
    return [leaf for leaf, label in pairs if is_mask(leaf, label)]


def _masked(on: Rehearsal, made: Callable[[torch.Tensor], torch.Tensor]) -> Rehearsal | None:
    """Return a rehearsal with other masks; None if it has none."""
    inputs = on.inputs
    if not _masks(inputs):
        return None
    leaves = tuple(
        made(leaf) if is_mask(leaf, label) else leaf
        for leaf, label in zip(inputs.leaves, inputs.labels, strict=True)
    )
    return replace(on, inputs=replace(inputs, leaves=leaves, given={}))


def _striped(first: int, mask: torch.Tensor) -> torch.Tensor:
    """Return a mask of 0 and 1 in turns along its last axis."""
    if not mask.ndim:
        return mask
    row = (torch.arange(mask.shape[-1]) + first) % 2
    return row.to(mask.dtype).expand(mask.shape).clone()


def _tokens(inputs: Inputs, row: Row, part: slice) -> tuple[torch.Tensor, ...]:
    """Return the leaves with other tokens, also in floating ones that are shaped alike."""
    main = inputs.leaves[row.leaf]
    if not main.is_floating_point():
        return inputs.changed(row.leaf, part, row.axis, flip=True)
    alike = [
        index
        for index in sorted(set(inputs.same))
        if inputs.leaves[index].shape == main.shape and inputs.leaves[index].is_floating_point()
    ]
    return inputs.changed_together(alike, part, row.axis)

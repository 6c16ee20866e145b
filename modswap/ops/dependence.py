"""What a module's output depends on: its inputs, its samples, the tokens behind."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from modswap.core.dependence import CLEAR, Moves, ignored, is_causal
from modswap.core.finding import Finding
from modswap.ops.rehearsal import Inputs, Rehearsal, perform

PROBES = 3  # a discrete choice may miss one change
Part = Callable[[torch.Tensor], torch.Tensor]


def dependence(on: Rehearsal) -> Finding:
    """Find inputs that the new module ignores, and an order of tokens that it breaks.

    Args:
        on: A site's modules and a call for them.
    """
    moves = [argument(on, index) for index in sorted(set(on.inputs.same))]
    gone = ignored(moves)
    if gone:
        names = ", ".join(map(repr, gone))
        what = f"the new module ignores {names}, on which the original's output depends"
        fix = "choose a module that takes it, or leave this site out with `exclude`"
        return Finding("dependence", on.path, "failed", what, fix, {"ignored": list(gone)})
    leak = _leak(on)
    if leak is not None:
        axis, token, output = leak
        what = f"causality is lost: token {token} changes output {output}, which lies before it"
        fix = "choose a module that masks what lies behind, such as SelfAttention with `mask: true`"
        data = {"axis": axis, "token": token, "output": output}
        return Finding("dependence", on.path, "failed", what, fix, data)
    return Finding("dependence", on.path, "passed", data={"inputs": [m.cause for m in moves]})


def strength(base: Sequence[torch.Tensor], now: Sequence[torch.Tensor], part: Part) -> float:
    """Return the largest change among outputs, relative to their size; 0 where it is NaN.

    Args:
        base: Outputs.
        now: The same after a change.
        part: Takes from each what is compared.
    """
    found = [0.0]
    for one, other in zip(base, now, strict=False):
        if one.shape != other.shape or not one.numel():
            continue
        change = (part(other) - part(one)).abs()
        size = one.abs().max() + torch.finfo(one.dtype).tiny
        found.append(float(change.max() / size) if change.numel() else 0.0)
    return max(value for value in found if value == value)  # noqa: PLR0124 - not NaN


def along(axis: int, part: slice) -> Part:
    """Return what takes a part of a tensor along an axis."""
    return lambda tensor: tensor[(slice(None),) * axis + (part,)] if tensor.ndim > axis else tensor


def argument(on: Rehearsal, index: int) -> Moves:
    """Return how far the outputs move with one input.

    Args:
        on: A site's modules and a call for them.
        index: Which of the call's tensors.
    """
    inputs = on.inputs
    changes = [inputs.changed(index, slice(None)) for _ in range(PROBES)]
    old, new = (_moved(module, inputs, changes, lambda t: t) for module in (on.old, on.new))
    return Moves(inputs.labels[index], old, new)


def _moved(
    module: nn.Module, inputs: Inputs, changes: Sequence[Sequence[torch.Tensor]], part: Part
) -> float:
    """Return how far a module's outputs move, by the first change that moves them clearly."""
    base = perform(module, inputs)
    most = 0.0
    for leaves in changes:
        most = max(most, strength(base, perform(module, inputs, leaves), part))
        if most > CLEAR:
            break
    return most


def _leak(on: Rehearsal) -> tuple[int, int, int] | None:
    """Return the axis, a token and an earlier output that it changes in the new module alone."""
    base = perform(on.old, on.inputs)
    main = next((leaf for leaf in on.inputs.leaves if leaf.is_floating_point()), None)
    if main is None or main.ndim != 3 or not base or base[0].ndim != 3:
        return None
    for axis, length in enumerate(main.shape):
        sequence = length >= 3 and base[0].shape[axis] == length
        if sequence and axis != on.axis and _is_causal(on, axis, length):
            found = _looks_ahead(on, axis, length)
            if found is not None:
                return axis, *found
    return None


def _is_causal(on: Rehearsal, axis: int, length: int) -> bool:
    back = []
    for cut in {1, length // 2}:
        later = [_tokens(on.inputs, axis, slice(cut, None))]
        back.append(_moved(on.old, on.inputs, later, along(axis, slice(0, cut))))
    earlier = [_tokens(on.inputs, axis, slice(0, 1))]
    return is_causal(back, _moved(on.old, on.inputs, earlier, along(axis, slice(1, None))))


def _looks_ahead(on: Rehearsal, axis: int, length: int) -> tuple[int, int] | None:
    base = perform(on.new, on.inputs)
    for token in sorted({length // 2, length - 1, 1}, reverse=True):
        now = perform(on.new, on.inputs, _tokens(on.inputs, axis, slice(token, token + 1)))
        for output in range(token - 1, -1, -1):
            if strength(base, now, along(axis, slice(output, output + 1))) > CLEAR:
                return token, output
    return None


def _tokens(inputs: Inputs, axis: int, part: slice) -> tuple[torch.Tensor, ...]:
    """Return the leaves with other tokens in all that are shaped as the first one."""
    main = next(leaf for leaf in inputs.leaves if leaf.is_floating_point())
    leaves = inputs.leaves
    for index in sorted(set(inputs.same)):
        one = inputs.leaves[index]
        if one.shape == main.shape and one.is_floating_point():
            changed = inputs.changed(index, part, axis)
            leaves = tuple(
                new if first == index else kept
                for new, kept, first in zip(changed, leaves, inputs.same, strict=True)
            )
    return leaves

"""What a module's output depends on: its inputs, later tokens, tokens that are masked."""

from collections.abc import Sequence

from modswap.core.decided.dependence import Moves, ignored
from modswap.core.finding import Finding
from modswap.ops.examine.alone.movement import argument
from modswap.ops.examine.alone.pair import Rehearsal
from modswap.ops.examine.alone.tokens import seen_from_before, seen_through_mask


def dependence(on: Rehearsal) -> Finding:
    """Find inputs that are ignored, an order of tokens that is broken, masks that hide no more.

    Args:
        on: A site's modules, or the whole model before and after, and a call for them.
    """
    moves = [argument(on, index) for index in sorted(set(on.inputs.same))]
    return (
        _ignoring(on, moves)
        or _anticipating(on)
        or _unmasking(on)
        or Finding("dependence", on.path, "passed", data={"inputs": [m.cause for m in moves]})
    )


def _ignoring(on: Rehearsal, moves: Sequence[Moves]) -> Finding | None:
    gone = ignored(moves)
    if not gone:
        return None
    names = ", ".join(map(repr, gone))
    new = "new module" if on.path else "swapped model"
    what = f"the {new} ignores {names}, on which the original's output depends"
    site = "this site" if on.path else "the site that passes it on"
    fix = f"choose a module that takes it, or leave {site} out with `exclude`"
    return Finding("dependence", on.path, "failed", what, fix, {"ignored": list(gone)})


def _anticipating(on: Rehearsal) -> Finding | None:
    seen = seen_from_before(on)
    if seen is None:
        return None
    what = (
        f"causality is lost: token {seen.token} changes output {seen.output}, which lies before it"
    )
    fix = "choose a module that masks later tokens, such as SelfAttention with `mask: true`"
    return Finding("dependence", on.path, "failed", what, fix, seen._asdict())


def _unmasking(on: Rehearsal) -> Finding | None:
    seen = seen_through_mask(on)
    if seen is None:
        return None
    output = "the output" if seen.output is None else f"output {seen.output}"
    what = (
        f"the mask is lost: token {seen.token} is masked and changes {output}, as it did not before"
    )
    fix = "choose a module that takes the mask, or one that treats each token alone"
    return Finding("dependence", on.path, "failed", what, fix, seen._asdict())

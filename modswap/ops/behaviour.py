"""How a new module behaves alone: gradients, samples, chance, what it writes."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from modswap.core.dependence import CLEAR, Moves
from modswap.core.finding import CheckName, Finding
from modswap.ops.dependence import argument, dependence
from modswap.ops.describe import live_tensors, one_line
from modswap.ops.moved import along, strength
from modswap.ops.rehearsal import Inputs, Rehearsal, is_mask, perform, put_back, seeded, set_mode
from modswap.ops.tokens import WHOLE_NUMBERS

Gradients = Mapping[str, torch.Tensor | None]
WRITES = "its input "
IN_PLACE = "take `inplace=True`, or the `_` of the operation that writes into it, away"


def breaks(on: Rehearsal) -> bool:
    """Return whether the new module's output is not finite, and the original's is.

    Args:
        on: A site's modules and a call for them.
    """
    old, new = (_all_finite(perform(one, on.inputs)) for one in (on.old, on.new))
    return old and not new


def finite(on: Rehearsal) -> Finding:
    """Find outputs that are not finite where the original's are."""
    if not _all_finite(perform(on.old, on.inputs)):
        what = "the original's output is not finite either, on random weights"
        return Finding("finite", on.path, "skipped", what)
    if not breaks(on):
        return Finding("finite", on.path, "passed")
    what = "the output is not finite for normal inputs; the original's was"
    return Finding("finite", on.path, "failed", what, "look for a division or a logarithm by zero")


def determinism(on: Rehearsal) -> Finding:
    """Find outputs that differ from call to call in evaluation mode, as the original's do not."""
    old, new = (
        strength(perform(one, on.inputs), perform(one, on.inputs, seed=1), lambda t: t)
        for one in (on.old, on.new)
    )
    if not Moves("chance", old, new).gained:
        return Finding("determinism", on.path, "passed")
    what = "in evaluation mode the same input gives another output each time, as it did not before"
    fix = "draw only where `self.training` says so"
    return Finding("determinism", on.path, "failed", what, fix, {"change": new})


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


def untouched(on: Rehearsal) -> Finding:
    """Find what an evaluation forward writes: its inputs, buffers, flags, the random state."""
    before = _written(on.old, on.inputs)
    stateful = any(name.startswith("'") for name in before)  # then other names may be written
    written = [name for name in _written(on.new, on.inputs) if name not in before]
    kinds = [name for name in written if not (stateful and name.startswith("'"))]
    if not kinds:
        return Finding("untouched", on.path, "passed")
    what = f"a forward pass in evaluation mode changes {', '.join(kinds)}, as none did before"
    inputs = [name for name in kinds if name.startswith(WRITES)]
    fixes = [IN_PLACE] if inputs else []
    fixes += ["write only where `self.training` says so"] if len(inputs) < len(kinds) else []
    fix = "; ".join(fixes)
    return Finding("untouched", on.path, "failed", what, fix, {"changed": kinds})


def _written(module: nn.Module, inputs: Inputs) -> list[str]:
    """Return in words what one forward pass changes."""
    set_mode(module, training=False)
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    was = {name: tensor.detach().clone() for name, tensor in held.items()}
    leaves = [leaf.clone() for leaf in inputs.leaves]
    with seeded(0), torch.no_grad():
        states = torch.get_rng_state(), random.getstate()
        args, kwargs = inputs.live(leaves)
        module(*args, **kwargs)
        drawn = not torch.equal(states[0], torch.get_rng_state()) or states[1] != random.getstate()
    now = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    changed = [
        f"{name!r}"
        for name, tensor in was.items()
        if name not in now
        or tensor.shape != now[name].shape
        or not torch.equal(tensor.nan_to_num(), now[name].nan_to_num())
    ]
    put_back(now, was)
    flags = any(inner.training for inner in module.modules())
    words = ["the training flag"] if flags else []
    words += ["the global random state"] if drawn else []
    return [*changed, *_overwritten(inputs, leaves), *words]


def _overwritten(inputs: Inputs, leaves: Sequence[torch.Tensor]) -> list[str]:
    """Return in words which tensors of a call, made anew for it, were written into."""
    written = {
        f"{WRITES}{label!r}": None
        for label, was, now in zip(inputs.labels, inputs.leaves, leaves, strict=True)
        # the version, which has no public name, tells of values that stay as they were as well
        if now._version or not torch.equal(was, now)  # noqa: SLF001
    }
    return list(written)


def gradients(on: Rehearsal) -> Finding:
    """Find parameters without a gradient, gradients that are NaN, and inputs cut off.

    The original goes backward only where that decides: it may take as much memory again.
    """
    try:
        trained, given = _gradients(on.new, on.inputs)
    except Exception as error:  # noqa: BLE001 - the module's own code may raise anything
        _gradients(on.old, on.inputs)
        what = f"it raises in training mode, as the original does not: {one_line(error)}"
        status = "failed" if on.batch > 1 else "skipped"
        return Finding("gradients", on.path, status, what)  # type: ignore[arg-type] # one of two
    without = [name for name, grad in trained.items() if grad is None]
    if without:
        what = f"no gradient reaches {_names(without)}: distributed training dies of it"
        fix = "remove what the forward pass does not use, or give it `requires_grad=False`"
        return Finding("gradients", on.path, "failed", what, fix, {"without": without})
    both = (trained, given)
    broken = [n for part in both for n, g in part.items() if g is not None and not _all_finite([g])]
    stopped = [name for name, grad in given.items() if not _flows(grad)]
    if broken or stopped:
        return _beside_the_old(on, broken, stopped)
    return _passed(on, trained)


def _passed(on: Rehearsal, trained: Gradients) -> Finding:
    return Finding("gradients", on.path, "passed", data={"parameters": len(trained)})


def _beside_the_old(on: Rehearsal, broken: list[str], stopped: list[str]) -> Finding:
    """Return whether gradients that are not finite, or do not flow, are so since the swap."""
    old = _gradients(on.old, on.inputs)
    if broken and all(_all_finite(live_tensors(list(part.values()))) for part in old):
        what = f"the gradient of {_names(broken)} is not finite; the original's were"
        fix = "look for a root, a logarithm or a division at zero, also where `where` takes neither"
        return Finding("gradients", on.path, "failed", what, fix, {"broken": broken})
    # what the module ignores altogether is told elsewhere
    labels = on.inputs.labels
    flowed = [name for name in stopped if _flows(old[1].get(name))]
    cut = [name for name in flowed if argument(on, labels.index(name)).new > CLEAR]
    if cut:
        what = f"the input {_names(cut)} moves the output, and no gradient reaches it any more"
        fix = "look for `detach`, `no_grad` or rounding in the new module"
        return Finding("gradients", on.path, "failed", what, fix, {"cut": cut})
    return _passed(on, dict(on.new.named_parameters()))


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _flows(grad: torch.Tensor | None) -> bool:
    return grad is not None and bool(grad.abs().max() > 0)


def _gradients(module: nn.Module, inputs: Inputs) -> tuple[Gradients, Gradients]:
    """Return the gradients of parameters and of inputs after one step in training mode."""
    set_mode(module, training=True)
    module.zero_grad(set_to_none=True)
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    floating = [leaf.is_floating_point() for leaf in inputs.leaves]
    sources = [
        leaf.clone().requires_grad_(wanted)
        for leaf, wanted in zip(inputs.leaves, floating, strict=True)
    ]
    with seeded(0), torch.enable_grad():
        # a module may write into its input, which no leaf allows
        args, kwargs = inputs.live([one * 1 if one.requires_grad else one for one in sources])
        outputs = live_tensors(module(*args, **kwargs))
        losses = [(y * torch.randn_like(y)).sum() for y in outputs if y.requires_grad]
        if losses:
            torch.stack([loss.float() for loss in losses]).sum().backward()
    put_back(dict(module.named_buffers()), kept)
    trained = {n: p.grad for n, p in module.named_parameters() if p.requires_grad}
    given: dict[str, torch.Tensor | None] = {}
    for label, source in zip(inputs.labels, sources, strict=True):
        if source.grad is not None or label not in given:
            given[label] = source.grad
    module.zero_grad(set_to_none=True)
    return trained, given


def _all_finite(outputs: list[Any]) -> bool:
    return all(bool(torch.isfinite(one).all()) for one in outputs)


CHECKS: Mapping[CheckName, Callable[[Rehearsal], Finding]] = {
    "gradients": gradients,
    "dependence": dependence,
    "independence": independence,
    "determinism": determinism,
    "finite": finite,
    "untouched": untouched,
}

"""Examine gradients: parameters without one, values that are not finite, inputs cut off."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from modswap.core.decided.dependence import CLEAR_RATIO
from modswap.core.finding import Finding, Status
from modswap.live_values import live_tensors
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.ops.examine.alone.movement import change_by_input
from modswap.ops.examine.alone.pair import Pair
from modswap.ops.examine.alone.sites import finding_of, pairs
from modswap.ops.examine.alone.training import training_pass
from modswap.ops.examine.bench import Bench
from modswap.ops.run.describe import all_finite, one_line
from modswap.ops.run.isolation import put_back, set_mode

Gradients = Mapping[str, torch.Tensor | None]


def gradients(bench: Bench) -> Iterator[Finding]:
    """Find parameters without a gradient, gradients that are not finite, and inputs cut off.

    Each site runs backward once. The original does so only where the result depends on it.
    """
    for pair in pairs(bench):
        yield finding_of("gradients", pair, _of_pair, bench)


def _of_pair(pair: Pair) -> Finding:
    try:
        trained, given = _gradients(pair.new, pair.inputs)
    except Exception as error:  # noqa: BLE001 - the module's own code may raise anything
        _gradients(pair.old, pair.inputs)
        what = f"it raises in training mode, as the original does not: {one_line(error)}"
        status: Status = "failed" if pair.batch > 1 else "skipped"
        return Finding("gradients", pair.path, status, what)
    without = [name for name, grad in trained.items() if grad is None]
    return _missing(pair, without) if without else _compared(pair, trained, given)


def _missing(pair: Pair, without: list[str]) -> Finding:
    what = f"no gradient reaches {_names(without)}: distributed training fails then"
    fix = "remove what the forward pass does not use, or give it `requires_grad=False`"
    return Finding("gradients", pair.path, "failed", what, fix, {"without": without})


def _compared(pair: Pair, trained: Gradients, given: Gradients) -> Finding:
    """Compare gradients with those of the original, where they do not flow or are not finite."""
    known = [(name, grad) for part in (trained, given) for name, grad in part.items()]
    broken = [name for name, grad in known if grad is not None and not all_finite([grad])]
    stopped = [name for name, grad in given.items() if not _flows(grad)]
    if broken or stopped:
        return _beside_the_old(pair, broken, stopped)
    return _passed(pair, trained)


def _passed(pair: Pair, trained: Gradients) -> Finding:
    return Finding("gradients", pair.path, "passed", data={"parameters": len(trained)})


def _beside_the_old(pair: Pair, broken: list[str], stopped: list[str]) -> Finding:
    """Compare gradients that are not finite, or do not flow, with those of the original."""
    old = _gradients(pair.old, pair.inputs)
    if broken and all(all_finite(live_tensors(list(part.values()))) for part in old):
        what = f"the gradient of {_names(broken)} is not finite; the original's were"
        fix = "look for a root, a logarithm or a division at zero, also where `where` takes neither"
        return Finding("gradients", pair.path, "failed", what, fix, {"broken": broken})
    # `dependence` reports inputs that the module ignores altogether
    labels = pair.inputs.labels
    flowed = [name for name in stopped if _flows(old[1].get(name))]
    cut = [name for name in flowed if change_by_input(pair, labels.index(name)).new > CLEAR_RATIO]
    if cut:
        what = f"the input {_names(cut)} moves the output, and no gradient reaches it any more"
        fix = "look for `detach`, `no_grad` or rounding in the new module"
        return Finding("gradients", pair.path, "failed", what, fix, {"cut": cut})
    return _passed(pair, dict(pair.new.named_parameters()))


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _flows(grad: torch.Tensor | None) -> bool:
    return grad is not None and bool(grad.abs().max() > 0)


def _gradients(module: nn.Module, inputs: CallInputs) -> tuple[Gradients, Gradients]:
    """Return the gradients of parameters and of inputs after one step in training mode."""
    set_mode(module, training=True)
    module.zero_grad(set_to_none=True)
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    sources = [leaf.clone().requires_grad_(leaf.is_floating_point()) for leaf in inputs.leaves]
    training_pass(module, inputs, sources)
    put_back(dict(module.named_buffers()), kept)
    trained = {n: p.grad for n, p in module.named_parameters() if p.requires_grad}
    given: dict[str, torch.Tensor | None] = {}
    for label, source in zip(inputs.labels, sources, strict=True):
        if source.grad is not None or label not in given:
            given[label] = source.grad
    module.zero_grad(set_to_none=True)
    return trained, given

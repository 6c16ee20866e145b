"""Examine whether new modules can be copied, saved, cast and moved after a training pass."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from torch import nn

from modswap.core.finding import Finding
from modswap.ops.examine.alone.copying import WAYS, CopyFault, Trained, copied_or_none
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.ops.examine.alone.pair import NoPair, Pair
from modswap.ops.examine.alone.sites import finding_of, pairs, unfilled
from modswap.ops.examine.alone.training import training_pass
from modswap.ops.examine.bench import Bench
from modswap.ops.run.isolation import untouched


def copies(bench: Bench) -> Iterator[Finding]:
    """Find new modules that cannot be copied after a training pass, as the original can.

    They are copied by `copy.deepcopy`, by `pickle` and through a state dict, cast by `half()` and
    moved by `.to(device)`, on tensors without data, so that no other device is needed. A module too
    large to be run is copied without its data.
    """
    originals = {path: (old, new) for path, old, new in bench.sites}
    for found in pairs(bench):
        unrun = isinstance(found, NoPair) and not found.raised
        pair = replace(unfilled(bench, found.path), like=found.like) if unrun else found
        check = partial(_of_pair, *originals[pair.path])
        yield finding_of("copies", pair, check, bench, compares=False)


def _of_pair(old_module: nn.Module, new_module: nn.Module, pair: Pair) -> Finding:
    new = _faults(new_module, pair.new, pair.inputs)
    old = _faults(old_module, pair.old, pair.inputs) if new else {}
    found = {way: fault for way, fault in new.items() if way not in old}
    if not found:
        what = f"neither it nor the original stands {', '.join(new)}" if new else ""
        return Finding("copies", pair.path, "passed", what, data={"alike": list(new)})
    fault = next(iter(found.values()))
    name = f"{pair.path}.{fault.attribute}" if fault.attribute else ""
    what = f"{name!r}: {fault.what}" if name else fault.what
    data = {"ways": list(found), "attribute": name}
    return Finding("copies", pair.path, "failed", what, fault.fix, data)


def _faults(original: nn.Module, module: nn.Module, inputs: CallInputs) -> dict[str, CopyFault]:
    """Return the fault of each way of copying that does not hold after a training pass."""
    fresh = copied_or_none(module)
    has_values = not any(leaf.is_meta for leaf in inputs.leaves)
    with untouched(module, training=True):
        if inputs.leaves:
            with suppress(Exception):  # other examinations report what it raises
                given = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs.leaves]
                training_pass(module, inputs, given)
        module.zero_grad(set_to_none=True)
        trained = Trained(original, module, inputs, fresh, has_values and bool(inputs.leaves))
        tried = {name: way(trained) for name, way in WAYS.items()}
    return {name: fault for name, fault in tried.items() if fault is not None}

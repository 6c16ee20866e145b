"""Examine writes of a forward pass in evaluation: to inputs, buffers, flags, the random state."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.ops.examine.alone.pair import Pair
from modswap.ops.examine.alone.readers import harm_of_write
from modswap.ops.examine.alone.sites import finding_of, pairs
from modswap.ops.examine.bench import Bench
from modswap.ops.run.describe import one_line
from modswap.ops.run.isolation import put_back, set_mode
from modswap.seeds import seeded

IN_PLACE = "take `inplace=True`, or the `_` of the operation that writes into it, away"


class Write(NamedTuple):
    """A write of a forward pass: to an input of the call, a tensor of the module, another state."""

    kind: Literal["input", "tensor", "state"]
    name: str  # in reports


def untouched(bench: Bench) -> Iterator[Finding]:
    """Find inputs, buffers, flags and random states that new modules write in evaluation.

    A write to an input, as by `inplace=True`, fails only where the model reads the input again or
    needs it to go backward.
    """
    for pair in pairs(bench):
        yield finding_of("untouched", pair, partial(_of_pair, bench), bench, compares=False)


def _of_pair(bench: Bench, pair: Pair) -> Finding:
    before = _writes(pair.old, pair.inputs)
    new = [write for write in _writes(pair.new, pair.inputs) if write not in before]
    if any(write.kind == "tensor" for write in before):
        # where the original writes to its tensors, the new module may write to others
        new = [write for write in new if write.kind != "tensor"]
    if not new:
        return Finding("untouched", pair.path, "passed")
    data = {"changed": [write.name for write in new]}
    names = ", ".join(data["changed"])
    what = f"a forward pass in evaluation mode changes {names}, as none did before"
    kinds = {write.kind for write in new}
    if kinds == {"input"}:
        found = Finding("untouched", pair.path, "failed", what, IN_PLACE, data)
        return _input_written(bench, found)
    fixes = [IN_PLACE] if "input" in kinds else []
    fix = "; ".join([*fixes, "write only where `self.training` says so"])
    return Finding("untouched", pair.path, "failed", what, fix, data)


def _input_written(bench: Bench, found: Finding) -> Finding:
    """Return a finding that fails only where the written input is read afterwards."""
    what = f"it writes into {', '.join(found.data['changed'])}"
    try:
        harm = harm_of_write(bench, found.path)
    except Exception as error:  # noqa: BLE001 - the model's own code may raise anything
        what += f"; its readers are not known: {one_line(error, 120)}"
        return replace(found, status="passed", what=what)
    if harm:
        return replace(found, what=f"{found.what}: {harm}")
    return replace(found, status="passed", what=f"{what}, which nothing reads afterwards", fix="")


def _writes(module: nn.Module, inputs: CallInputs) -> list[Write]:
    """Return all writes of one forward pass."""
    set_mode(module, training=False)
    before = {name: tensor.detach().clone() for name, tensor in _held(module).items()}
    leaves = [leaf.clone() for leaf in inputs.leaves]
    with seeded(0), torch.no_grad():
        states = torch.get_rng_state(), random.getstate()
        args, kwargs = inputs.live(leaves)
        module(*args, **kwargs)
        drawn = not torch.equal(states[0], torch.get_rng_state()) or states[1] != random.getstate()
    after = _held(module)
    changed = _changed(before, after)
    put_back(after, before)
    states_written = ["the training flag"] * any(inner.training for inner in module.modules())
    states_written += ["the global random state"] * drawn
    return [
        *(Write("tensor", repr(name)) for name in changed),
        *(Write("input", f"its input {label!r}") for label in _overwritten(inputs, leaves)),
        *(Write("state", name) for name in states_written),
    ]


def _held(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> list[str]:
    return [name for name, old in before.items() if not _equal(old, after.get(name))]


def _equal(old: torch.Tensor, new: torch.Tensor | None) -> bool:
    if new is None or old.shape != new.shape:
        return False
    return torch.equal(old.nan_to_num(), new.nan_to_num())


def _overwritten(inputs: CallInputs, leaves: Sequence[torch.Tensor]) -> list[str]:
    """Return the labels of the tensors of a call that were written to."""
    calls = zip(inputs.labels, inputs.leaves, leaves, strict=True)
    # the version also counts writes of equal values
    written = (
        label
        for label, was, now in calls
        if now._version or not torch.equal(was, now)  # noqa: SLF001 - it has no public name
    )
    return list(dict.fromkeys(written))

"""Examine writes of a forward in evaluation: to inputs, buffers, flags, the random state."""

import random
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from modswap.core.finding import Finding
from modswap.ops.examine.alone.inputs import CallInputs
from modswap.ops.examine.alone.pair import Pair
from modswap.ops.examine.alone.readers import IN_PLACE, WRITES, without_harmless_writes
from modswap.ops.examine.alone.sites import finding_of, pairs
from modswap.ops.examine.bench import Bench
from modswap.ops.run.isolation import put_back, set_mode
from modswap.seeds import seeded


def untouched(bench: Bench) -> Iterator[Finding]:
    """Find inputs, buffers, flags and random states that new modules write in evaluation."""
    for pair in pairs(bench):
        found = finding_of("untouched", pair, _of_pair, bench, compares=False)
        yield without_harmless_writes(bench, found)


def _of_pair(pair: Pair) -> Finding:
    before = _written(pair.old, pair.inputs)
    # an original that writes buffers may be replaced by a module that writes others
    stateful = any(name.startswith("'") for name in before)
    kinds = [
        name
        for name in _written(pair.new, pair.inputs)
        if name not in before and not (stateful and name.startswith("'"))
    ]
    if not kinds:
        return Finding("untouched", pair.path, "passed")
    what = f"a forward pass in evaluation mode changes {', '.join(kinds)}, as none did before"
    inputs = [name for name in kinds if name.startswith(WRITES)]
    fixes = [IN_PLACE] if inputs else []
    fixes += ["write only where `self.training` says so"] if len(inputs) < len(kinds) else []
    fix = "; ".join(fixes)
    return Finding("untouched", pair.path, "failed", what, fix, {"changed": kinds})


def _written(module: nn.Module, inputs: CallInputs) -> list[str]:
    """Return names of all that one forward pass changes."""
    set_mode(module, training=False)
    before = {name: tensor.detach().clone() for name, tensor in _held(module).items()}
    leaves = [leaf.clone() for leaf in inputs.leaves]
    with seeded(0), torch.no_grad():
        states = torch.get_rng_state(), random.getstate()
        args, kwargs = inputs.live(leaves)
        module(*args, **kwargs)
        drawn = not torch.equal(states[0], torch.get_rng_state()) or states[1] != random.getstate()
    after = _held(module)
    changed = [repr(name) for name, old in before.items() if not _equal(old, after.get(name))]
    put_back(after, before)
    words = ["the training flag"] if any(inner.training for inner in module.modules()) else []
    words += ["the global random state"] if drawn else []
    return [*changed, *_overwritten(inputs, leaves), *words]


def _held(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _equal(old: torch.Tensor, new: torch.Tensor | None) -> bool:
    if new is None or old.shape != new.shape:
        return False
    return torch.equal(old.nan_to_num(), new.nan_to_num())


def _overwritten(inputs: CallInputs, leaves: Sequence[torch.Tensor]) -> list[str]:
    """Return names of the tensors of a call, made anew for it, that were written into."""
    written = {
        f"{WRITES}{label!r}": None
        for label, was, now in zip(inputs.labels, inputs.leaves, leaves, strict=True)
        # the version counts writes of the same values as well
        if now._version or not torch.equal(was, now)  # noqa: SLF001 - it has no public name
    }
    return list(written)

"""The weights of a slot after a swap, by the names that they get in the written file."""

from collections.abc import Mapping
from typing import Any

import torch

from modswap.core.kept.ledger import Changes
from modswap.io.formats.format import FileNames
from modswap.io.recognise.model_places import COUNTER
from modswap.ops.load.stored import Stored


def plain_values(
    held: Mapping[str, Any], state: Mapping[str, Any], covered: Changes
) -> dict[str, Any]:
    """Return the weights of a slot whose names are those of the model.

    `state` is the state of the swapped model; buffers that the file leaves out stay left out.
    """
    return {
        name: _cast_like(value, held) if covered.covers(name) else held[name]
        for name, value in state.items()
        if name in held or covered.covers(name)
    }


def named_values(
    held: Mapping[str, Any],
    stored: Stored,
    names: FileNames,
    state: Mapping[str, Any],
    covered: Changes,
) -> dict[str, Any]:
    """Return the weights of a slot that has names of its own, in the order of the model."""
    known = {**held, **{alias: held[name] for alias, name in names.heirs.items()}}
    values: dict[str, Any] = {}
    for name, value in state.items():
        if name in names.new:
            values[names.new[name]] = _cast_like(value, held)
        elif not covered.covers(name):
            values |= {old: known[old] for old in stored.sources.get(name, ()) if old in known}
    gone = {*names.gone, COUNTER}
    left = {*values, *gone}
    return values | {name: tensor for name, tensor in known.items() if name not in left}


def converted_values(stored: Stored, state: Mapping[str, Any], covered: Changes) -> dict[str, Any]:
    """Return the weights by the model's names, where a library converts those of the file."""
    return {**plain_values(stored.weights, state, covered), **carried(stored, covered)}


def carried(stored: Stored, covered: Changes) -> dict[str, Any]:
    """Return the tensors of a file that are none of the model, but for those of swapped modules."""
    return {
        name: stored.raw[name] for name, own in stored.carried.items() if not covered.covers(own)
    }


def _cast_like(value: Any, weights: Mapping[str, Any]) -> Any:
    """Return a new tensor in the dtype of a slot's other floating tensors."""
    floating = next((t for t in weights.values() if t.is_floating_point()), None)
    if floating is None or not torch.is_tensor(value) or not value.is_floating_point():
        return value
    return value.to(floating.dtype)

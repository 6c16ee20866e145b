"""Fill a model with the weights of a file, and keep tied parameters tied."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from modswap.ops.load.factory import Factory

MAX_NAMES = 6  # of a list that an error prints


def fill(
    model: nn.Module, weights: Mapping[str, torch.Tensor], factory: Factory, where: str
) -> None:
    """Put a file's weights into a model without a copy, and keep tied parameters tied.

    Raises:
        ModswapError: Of the factory's kind, with the names that are missing or do not fit.
    """
    wanted = model.state_dict(keep_vars=True)
    tensors = {name: value for name, value in wanted.items() if torch.is_tensor(value)}
    missing = [name for name in tensors if name not in weights]
    unexpected = [name for name in weights if name not in wanted]
    mismatched = [
        f"{name} is {tuple(weights[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in tensors.items()
        if name in weights and weights[name].shape != value.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "mismatched": mismatched}
    wrong = [f"{len(names)} {kind} ({_some(names)})" for kind, names in found.items() if len(names)]
    if wrong:
        what = f"the model of {factory.name!r} does not fit the weights: {'; '.join(wrong)}"
        fix = f"build the model that {Path(where).absolute().name} was saved from"
        raise factory.error(what, factory.where, fix)
    ties = _ties(tensors)
    model.load_state_dict(weights, strict=False, assign=True)
    _tie(model, ties, weights)


def _some(names: list[str]) -> str:
    more = f", … and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _ties(tensors: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """Return the groups of names that hold one tensor object."""
    groups: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(id(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _tie(model: nn.Module, ties: list[list[str]], weights: Mapping[str, torch.Tensor]) -> None:
    for first, *others in ties:
        owner, _, leaf = first.rpartition(".")
        tensor = getattr(model.get_submodule(owner), leaf)
        for name in others:
            if not _alike(weights[first], weights[name]):
                continue  # the file holds two: keep both
            owner, _, leaf = name.rpartition(".")
            table = model.get_submodule(owner)
            (table._parameters if leaf in table._parameters else table._buffers)[leaf] = tensor


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.data_ptr() == b.data_ptr() and a.shape == b.shape) or torch.equal(a, b)

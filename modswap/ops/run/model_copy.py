"""Copy a model, with its own or random weights, to change, export and run the copy."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from modswap import live_values
from modswap.io.formats.exported.agreement import apart, deviation
from modswap.ops.run.forward import pass_dtype
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import set_mode
from modswap.ops.run.random_weights import copied
from modswap.seeds import seeded

MAX_COPIED_BYTES = 256 << 20  # of a model that is copied for an examination


def nbytes_of(model: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers, shared ones once."""
    return sum(map(live_values.nbytes_of, _held(model)))


def _held(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


def too_large(model: nn.Module) -> str:
    """Return the reason why a model is too large to be copied; empty if it is not."""
    nbytes = nbytes_of(model)
    if nbytes <= MAX_COPIED_BYTES:
        return ""
    limit = MAX_COPIED_BYTES >> 20
    return f"its weights take {nbytes / 2**20:,.0f} MiB: models up to {limit} MiB are copied"


def copied_model(model: nn.Module, *, unreal: bool, seed: int = 0) -> nn.Module:
    """Return a copy in evaluation mode that shares no tensor with the model.

    An `unreal` copy has random weights, so that those of the model are not read; it is refused by
    an `UnfitError` where a large buffer of whole numbers would have to be drawn.
    """
    if unreal:
        with seeded(seed):
            twin = copied(model, {})
        for own, made in zip(_held(model), _held(twin), strict=True):
            made.data = made.data.to(own.dtype)
    else:
        twin = copy.deepcopy(model)
    set_mode(twin, training=False)
    return twin


def in_float32(model: nn.Module, case: Case) -> tuple[nn.Module, torch.dtype | None]:
    """Cast a copy of a model to the dtype of a pass; return it with the dtype of its inputs."""
    dtype = pass_dtype(model, case)
    return (model if dtype is None else model.to(dtype)), dtype


def outputs_differ(
    expected: Sequence[torch.Tensor], got: Sequence[torch.Tensor], there: str = "in Python"
) -> tuple[str, float]:
    """Return a sentence on how outputs differ, empty if they do not, and their deviation.

    `there` names the place where the model returned the expected ones.
    """
    if len(expected) != len(got):
        return f"it gives {len(got)} tensors, {len(expected)} {there}", 0.0
    for a, b in zip(expected, got, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            was, now = (f"{tuple(t.shape)} {str(t.dtype)[6:]}" for t in (a, b))
            return f"it gives {now}, {was} {there}", 0.0
    if furthest := max(map(apart, expected, got), default=0.0):
        return f"it computes something else: outputs are {furthest:.3g} apart", 0.0
    return "", max(map(deviation, expected, got), default=0.0)

"""Fake tensors: shapes, dtypes and strides without data."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

# only fake tensors raise these, where a model needs the values of a tensor
_VALUES_NEEDED = frozenset(
    {
        "DataDependentOutputException",
        "DynamicOutputShapeException",
        "GuardOnDataDependentSymNode",
        "NotImplementedError",
        "UnsupportedFakeTensorException",
        "UnsupportedMutationAliasingException",
        "UnsupportedOperatorException",
    }
)


@contextmanager
def fake_mode() -> Iterator[FakeTensorMode]:
    """Make the tensors of a block fake; real tensors among its inputs are let through."""
    # torch logs a traceback for every error, and the callers catch them
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode
    finally:
        logger.setLevel(level)


def made_fake(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    """Return a fake tensor with the shape, strides, dtype and device of another.

    It requires no gradient. A plain tensor takes a quicker way than torch's own, which imports
    torch's compiler.
    """
    plain = type(tensor) in {torch.Tensor, nn.Parameter} and tensor.layout is torch.strided
    if plain:
        size, stride = tensor.shape, tensor.stride()
        return torch.empty_strided(size, stride, dtype=tensor.dtype, device=tensor.device)
    made: torch.Tensor = mode.from_tensor(tensor)
    return made.detach()


def needs_values(error: BaseException | None) -> bool:
    """Return whether an exception, or a cause of it, says that a model needs values."""
    while error is not None:
        if any(cls.__name__ in _VALUES_NEEDED for cls in type(error).__mro__):
            return True
        error = error.__cause__ or error.__context__
    return False

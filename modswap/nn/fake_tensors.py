"""Fake tensors: shapes, dtypes and strides without data."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

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


def needs_values(error: BaseException | None) -> bool:
    """Return whether an exception, or a cause of it, says that a model needs values."""
    while error is not None:
        if any(cls.__name__ in _VALUES_NEEDED for cls in type(error).__mro__):
            return True
        error = error.__cause__ or error.__context__
    return False

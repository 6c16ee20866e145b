"""Fake tensors, and the errors that ask for values.

Covers: attention_backend.
"""

import logging

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from modswap.nn.attention_backend import plain_attention
from modswap.nn.fake_tensors import fake_mode, needs_values


def test_tensors_of_a_block_are_fake_and_the_log_is_as_before_afterwards() -> None:
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level

    with fake_mode():
        made = torch.ones(2, 3) @ torch.ones(3, 4)

    assert isinstance(made, FakeTensor)
    assert made.shape == (2, 4)
    assert logger.level == level


def test_error_that_asks_for_a_value_is_found_among_the_causes() -> None:
    wrapped = RuntimeError("wrapped")
    with pytest.raises(NotImplementedError) as caught, fake_mode():
        raise NotImplementedError("no values")
    wrapped.__cause__ = caught.value

    assert needs_values(wrapped)
    assert not needs_values(RuntimeError("another"))
    assert not needs_values(None)


def test_fast_path_of_attention_is_as_before_after_an_error() -> None:
    before = torch.backends.mha.get_fastpath_enabled()

    with pytest.raises(ZeroDivisionError), plain_attention():
        _ = 1 // 0

    assert torch.backends.mha.get_fastpath_enabled() == before

"""Warnings of torch that the command does not show."""

import warnings

from modswap.core.words.unhelpful_warnings import ignore_unhelpful_warnings


def test_only_warnings_that_ask_nothing_are_left_out() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ignore_unhelpful_warnings()
        warnings.warn("The PyTorch API of nested tensors is in prototype stage and …", stacklevel=1)
        warnings.warn("enable_nested_tensor is False", stacklevel=1)

    assert [str(one.message) for one in caught] == ["enable_nested_tensor is False"]

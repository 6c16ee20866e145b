"""Checks of the arguments and inputs of layers."""

from collections.abc import Callable

import pytest
import torch

from modswap.nn.checks import check_choice, check_divides, check_map, check_odd, check_positive


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_positive(dim=4, stride=0), "stride must be at least 1, got 0"),
        (lambda: check_odd(side=4), "side must be odd, got 4"),
        (lambda: check_odd(side=-1), "side must be at least 1, got -1"),
        (lambda: check_divides("heads", 3, dim=8), "dim 8 is not divisible by heads 3"),
        (lambda: check_choice("way", "c", ("a", "b")), "way must be one of 'a', 'b', got 'c'"),
        (lambda: check_map(torch.ones(2, 3, 4), 3), r"expected a map .*, got \(2, 3, 4\)"),
        (lambda: check_map(torch.ones(1, 3, 4, 4), 4), r"\(N, 4, H, W\), got \(1, 3, 4, 4\)"),
    ],
)
def test_wrong_value_is_refused_with_its_name(check: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check()


def test_right_values_pass() -> None:
    check_odd(side=3)
    check_divides("heads", 2, dim=8, qk_dim=4)
    check_choice("way", "a", ("a", "b"))
    check_map(torch.ones(2, 3, 4, 4), 3)

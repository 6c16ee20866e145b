"""Outputs of programs are compared."""

import pytest
import torch

from modswap.io.formats.exported.agreement import deviation


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ([1.0, float("nan")], [1.0, float("nan")], 0.0),
        ([1.0, float("inf")], [1.5, float("inf")], 0.5),
        ([], [], 0.0),
        ([3, 4], [3, 7], 3.0),
    ],
)
def test_largest_difference_is_found_beside_equal_values_that_are_no_numbers(
    a: list[float], b: list[float], apart: float
) -> None:
    assert deviation(torch.tensor(a), torch.tensor(b)) == apart

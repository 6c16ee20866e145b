"""Values in words, and names of values."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from modswap.ops.explain.values import described, named, not_finite

Pair = namedtuple("Pair", "first second")


@dataclass
class Box:
    inside: Any


TENSOR = ((2, 3), "float32")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.zeros(2, 3), TENSOR),
        (torch.zeros(2, 3, dtype=torch.int64), ((2, 3), "int64")),
        ([torch.zeros(2, 3), 1], ("", 2, None, (TENSOR, "1"))),
        (Pair(torch.zeros(2, 3), None), ("Pair", 2, ("first", "second"), (TENSOR, "None"))),
        ({"a": torch.zeros(2, 3), "b": None}, ("dict", 1, ("a",), (TENSOR,))),
        (Box(torch.zeros(2, 3)), ("Box", 1, ("inside",), (TENSOR,))),
        ([[[1]]], ("", 1, None, (("", 1, None, ("list",)),))),
        (list(range(9)), ("", 9, None, ("0", "1", "2", "3", "4", "5"))),
        ("x" * 30, f"'{'x' * 22}…"),
        (torch.float16, "torch.float16"),
        (slice(1, None), "slice(1, None, None)"),
        (Box(1), "Box"),
        (Box, "type"),
        (nn.ReLU(), "ReLU"),
    ],
)
def test_value_is_described_without_its_data(value: Any, expected: Any) -> None:
    assert described(value) == expected


def test_attributes_are_found_without_running_code() -> None:
    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("held", torch.zeros(1))
            self.weight = nn.Parameter(torch.zeros(1))
            self.inner = nn.ReLU()
            self.plain = 3

        @property
        def runs(self) -> int:
            raise AssertionError

    held = {"self": Owner(), "x": 1}

    assert named(held, "x") == (True, 1)
    assert named(held, "y") == (False, None)
    assert named(held, "self.plain") == (True, 3)
    assert all(named(held, f"self.{name}")[0] for name in ("held", "weight", "inner"))
    assert named(held, "self.runs") == (False, None)
    assert named(held, "x.real") == (False, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor([1.0, float("nan")]), {"NaN"}),
        (torch.tensor([float("inf"), float("-inf")]), {"inf"}),
        ([torch.tensor([float("inf")]), torch.tensor([float("nan")])], {"inf", "NaN"}),
        (torch.tensor([3e38, 3e38]), set()),  # the sum alone is infinite
        (torch.tensor([1, 2]), set()),
        (torch.zeros(0), set()),
        ("text", set()),
    ],
)
def test_nan_and_infinity_are_distinguished(value: Any, expected: set[str]) -> None:
    assert not_finite(value) == expected

"""Live values described by shapes, types and names."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from modswap.core.seen.values import Group, Plain, TensorInfo
from modswap.live_values import describe, dtype_name
from modswap.ops.run.describe import all_finite, class_name, one_line, positional


def test_containers_keep_names_and_order() -> None:
    value = OrderedDict(a=torch.ones(2, 3), b=[None, "text"])

    assert describe(value) == Group(
        "OrderedDict",
        ("a", "b"),
        (
            TensorInfo((2, 3), "float32", "cpu"),
            Group("list", ("0", "1"), (Plain("NoneType", "None"), Plain("str", "'text'"))),
        ),
    )


def test_other_objects_and_long_texts_are_cut_to_what_a_report_needs() -> None:
    assert describe(nn.ReLU()) == Plain("ReLU", "<ReLU>")
    assert describe("x" * 99) == Plain("str", "'" + "x" * 39)


def test_containers_that_hold_themselves_end() -> None:
    value: list[object] = []
    value.append(value)

    assert str(describe(value)).count("<list>") == 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\n  b"), "ValueError: a b"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 9), "ValueError: xxxxx…"),
        (RuntimeError("no\nException raised from f at T.cpp:3:\nframe #0: f"), "RuntimeError: no"),
    ],
)
def test_error_is_one_line_of_limited_length(error: Exception, text: str) -> None:
    assert one_line(error, 5) == text


def test_names_of_classes_dtypes_and_inputs() -> None:
    assert class_name(nn.ReLU()) == "torch.nn.modules.activation.ReLU"
    assert dtype_name(torch.bfloat16) == "bfloat16"
    assert positional(nn.ReLU(), 2) == ("input", "input 1")


def test_one_infinite_number_is_found() -> None:
    assert all_finite([torch.ones(2)])
    assert not all_finite([torch.ones(2), torch.tensor([1.0, float("inf")])])

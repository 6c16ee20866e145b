"""Shapes and types without data."""

from dataclasses import replace

import pytest

from modswap.core.seen.values import (
    NONE,
    Group,
    Plain,
    TensorInfo,
    Value,
    difference,
    of_any_precision,
    shapes,
    tensors,
)

A, B = TensorInfo((1, 2)), TensorInfo((1, 3))
HALF = TensorInfo((1, 2), "float16")


def pair(*items: Value, kind: str = "tuple") -> Group:
    return Group(kind, tuple(map(str, range(len(items)))), items)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (A, "(1, 2)"),
        (HALF, "(1, 2) float16"),
        (pair(A, NONE), "tuple[(1, 2), None]"),
        (Group("dict", ("x", "y"), (A, Plain("int", "3"))), "dict[x=(1, 2), y=3]"),
    ],
)
def test_value_prints_short(value: Value, text: str) -> None:
    assert str(value) == text


def test_tensors_are_found_depth_first() -> None:
    value = pair(pair(A, NONE), B)

    assert list(tensors(value)) == [A, B]
    assert shapes(value) == [[1, 2], [1, 3]]
    assert shapes(NONE) == []


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (A, A, None),
        (A, TensorInfo((1, 2), device="cuda:0"), None),
        (A, B, "output was (1, 2), is now (1, 3)"),
        (A, HALF, "output was (1, 2), is now (1, 2) float16"),
        (A, pair(A), "output was (1, 2), is now tuple[(1, 2)]"),
        (pair(A, B), pair(A, A), "output[1] was (1, 3), is now (1, 2)"),
        (pair(A), pair(A), None),
        (pair(A), pair(A, A), "output was tuple[(1, 2)], is now tuple[(1, 2), (1, 2)]"),
        (pair(A), pair(A, kind="list"), "output was tuple[(1, 2)], is now list[(1, 2)]"),
        (
            Group("dict", ("x",), (pair(A),)),
            Group("dict", ("x",), (pair(B),)),
            "output.x[0] was (1, 2), is now (1, 3)",
        ),
        (Plain("int", "3"), Plain("int", "4"), None),
        (NONE, Plain("int", "4"), "output was None, is now 4"),
    ],
)
def test_first_difference_is_named_with_both_sides(
    before: Value, after: Value, found: str | None
) -> None:
    assert difference(before, after) == found


def test_floating_dtypes_of_any_value_become_one() -> None:
    half, whole = TensorInfo((2,), "float16"), TensorInfo((2,), "int64")

    found = of_any_precision(pair(half, whole, pair(half), NONE))

    single = replace(half, dtype="float32")
    assert found == pair(single, whole, pair(single), NONE)

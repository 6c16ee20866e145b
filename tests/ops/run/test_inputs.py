"""Dummy inputs made from a recipe."""

import pytest
import torch

from modswap.core.asked.recipe import Recipe, TensorInput, Verify
from modswap.ops.run.inputs import Case, DummyCall, calls_of, cases_of, make


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("wanted", "low", "high"),
    [
        ({"shape": [50], "fill": "zeros"}, 0, 0),
        ({"shape": [50], "fill": "ones"}, 1, 1),
        ({"shape": [50], "fill": {"integers": [2, 5]}, "dtype": "int64"}, 2, 4),
        ({"shape": [50], "dtype": "int64"}, 0, 0),
    ],
)
def test_tensor_is_filled_as_asked(wanted: dict[str, object], low: int, high: int) -> None:
    made = make(wanted, generator())

    assert made.shape == (50,)
    assert (made.min(), made.max()) == (low, high)


def test_normal_values_are_normal_and_repeatable() -> None:
    first, second = (make(TensorInput(shape=(4000,)), generator()) for _ in range(2))

    assert torch.equal(first, second)
    assert abs(first.mean()) < 0.1
    assert abs(first.std() - 1) < 0.1


def test_dtype_replaces_float32_only() -> None:
    recipe_value = [{"shape": [2]}, {"shape": [2], "dtype": "float64"}, {"a": {"shape": [1]}}, 7]

    half, double, nested, number = make(recipe_value, generator(), torch.float16)

    assert (half.dtype, double.dtype) == (torch.float16, torch.float64)
    assert nested["a"].dtype == torch.float16
    assert number == 7


def test_cases_are_the_product_of_what_verify_asks_for() -> None:
    verify = Verify(modes=("eval", "train"), dtypes=("float32", "bfloat16"), sizes=((6, 8),))
    call = DummyCall((TensorInput(shape=(1, 3, 4, 4)),), {"z": {"shape": [2]}})

    keys = [str(case.key) for case in cases_of([call], verify)]

    assert len(keys) == 8
    assert keys[0] == "(1, 3, 4, 4), z=(2) eval float32"
    assert keys[1] == "(1, 3, 6, 8), z=(2) eval float32"
    assert keys[-1] == "(1, 3, 6, 8), z=(2) train bfloat16"


def test_size_reaches_maps_given_by_name() -> None:
    call = DummyCall((), {"x": {"shape": [1, 3, 4, 4]}, "n": 3}).resized((5, 7))

    assert str(call) == "x=(1, 3, 5, 7), n=3"


def test_calls_of_a_recipe_are_positional_or_named() -> None:
    recipe = Recipe.model_validate(
        {
            "version": 1,
            "inputs": [
                {"shape": [1, 3, 4, 4], "dtype": "uint8"},
                {"args": [{"shape": [1]}], "kwargs": {"flag": True}},
            ],
            "replace": [{"match": "a", "with": "b"}],
        }
    )

    assert [str(call) for call in calls_of(recipe.inputs)] == [
        "(1, 3, 4, 4) uint8",
        "(1), flag=True",
    ]


def test_case_can_change_its_mode() -> None:
    assert Case(DummyCall((), {})).in_mode("train").key.mode == "train"


def test_tensors_are_listed_in_the_order_of_the_call() -> None:
    call = DummyCall(([{"shape": [1]}],), {"x": {"shape": [2]}})

    assert [tensor.shape for tensor in call.tensors] == [(1,), (2,)]


def test_size_reaches_maps_inside_containers() -> None:
    call = DummyCall(([{"shape": [1, 3, 4, 4]}],), {}).resized((5, 7))

    assert call.tensors[0].shape == (1, 3, 5, 7)

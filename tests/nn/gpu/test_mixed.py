"""The fused way of ACmix computes the layer, in Triton's interpreter.

Covers: mixed.convolution_programs, mixed.layer, mixed.local_programs, mixed.operator, mixed.passes,
mixed.plan.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.nn.gpu.interpreter import interpreter
from tests.nn.gpu.test_routed import wrong

Ask = Callable[..., Any]
# gradients that are differences of large sums: in bfloat16 torch's own way has 4e-2 at these sizes
CANCELLING = {"conv_p.weight", "rate1", "rate2"}
TOLERANCE = {"float32": 5e-6, "float16": 2e-2}

CASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16 and four heads": {"dtype": "float16", "head": 4},
    "one head, a window of 7": {"head": 1, "kernel_att": 7, "size": (4, 9)},
    "dilation": {"dilation": 2, "kernel_att": 3, "size": (5, 3)},
    "channels of no round number": {"out_planes": 10, "kernel_att": 3},
}


def outside(found: dict[str, float], most: float) -> dict[str, float]:
    """Return the errors above a bar, which is five times as wide for differences of sums."""
    loose = {name: found[name] for name in CANCELLING}
    others = {name: found[name] for name in found.keys() - CANCELLING}
    return wrong(others, most) | {n: error for n, error in loose.items() if not error <= 5 * most}


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with interpreter("tests.nn.gpu.mixed_cases") as asked:
        yield asked


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_fused_way_follows_the_first(name: str, ask: Ask) -> None:
    case = CASES[name]

    assert wrong(ask("errors", **case), TOLERANCE[case.get("dtype", "float32")]) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "asked", "most"),
    [
        ({}, ["TF32x3"], 5e-6),
        ({"tf32": True}, ["TF32"], 1e-2),
        ({"dtype": "bfloat16"}, [], 4e-2),
    ],
    ids=["float32", "TF32 where torch allows it", "bfloat16"],
)
def test_products_are_as_exact_as_torch_asks_for(
    case: dict[str, Any], asked: list[str], most: float, ask: Ask
) -> None:
    found, precisions = ask("on_tensor_cores", **case)

    assert precisions == asked
    assert outside(found, most) == {}


@pytest.mark.slow
def test_two_passes_give_the_same_bits(ask: Ask) -> None:
    assert ask("twice") is True


@pytest.mark.slow
def test_compiled_layer_is_one_graph_with_the_numbers_of_eager(ask: Ask) -> None:
    assert ask("compiled") == [True, True, True]


@pytest.mark.slow
def test_gradients_have_gradients(ask: Ask) -> None:
    assert ask("double_backward") < 1e-4


@pytest.mark.slow
def test_other_layers_keep_the_first_way(ask: Ask) -> None:
    found = ask("untaken")

    assert found.pop("nothing changed") == ["local_kernel", "mixed_kernel"]
    assert all(names == [] for names in found.values()), found
    assert len(found) == 4

"""The fused way of bi-level routing attention computes the layer, in Triton's interpreter.

Covers: launches, tiles, routed.attention_programs, routed.convolution_programs,
routed.key_gradient_programs, routed.layer, routed.operator, routed.passes, routed.plan,
routed.routing_programs, routed.tile_sizes, routed.window_programs.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.nn.gpu.interpreter import interpreter

Ask = Callable[..., Any]
TOLERANCE = {"float32": 2e-6, "float16": 5e-3}
LAUNCHES = (8, 25)  # of a forward pass, and of one with its backward pass

# name → case; a window's keys fit one tile, or take several
CASES: dict[str, dict[str, Any]] = {
    "float16": {"dtype": "float16"},
    "several tiles": {"size": (1, 14, 10), "topk": 2, "num_heads": 1},
    "several tiles in float16": {"size": (1, 14, 18), "topk": 3, "dtype": "float16"},
    "filled up": {"size": (1, 5, 6), "auto_pad": True, "n_win": 3},
    "masked": {"size": (2, 5, 6), "auto_pad": True, "mask_padding": True, "topk": 4},
    "masked in several tiles": {
        "size": (1, 13, 10), "auto_pad": True, "mask_padding": True, "num_heads": 1,
    },
    "windows without a pixel": {
        "size": (1, 4, 5), "auto_pad": True, "mask_padding": True, "n_win": 3, "topk": 9,
    },
    "refactored": {"size": (1, 5, 7), "variant": "refactored"},
    "refactored and masked": {
        "size": (1, 5, 5), "variant": "refactored", "mask_padding": True, "layout": "NCHW",
        "dtype": "float16",
    },
    "fewer channels of queries, no convolution": {"qk_dim": 6, "side_dwconv": 0},
    "convolution of 7": {"side_dwconv": 7, "n_win": 1, "topk": 1, "num_heads": 1},
    "convolution of 5 apart": {"side_dwconv": 5, "size": (1, 18, 10), "topk": 1, "num_heads": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with interpreter("tests.nn.gpu.routed_cases") as asked:
        yield asked


def wrong(found: dict[str, float], tolerance: float) -> dict[str, float]:
    assert "input" in found
    return {name: error for name, error in found.items() if not error <= tolerance}


def test_the_fused_way_follows_the_first(ask: Ask) -> None:
    assert wrong(ask("errors", topk=2), TOLERANCE["float32"]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_fused_way_follows_the_first_in_every_mode(name: str, ask: Ask) -> None:
    case = CASES[name]

    found = ask("errors", **{"topk": 2, **case})

    assert wrong(found, TOLERANCE[case.get("dtype", "float32")]) == {}


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_few_programs_are_launched(dtype: str, ask: Ask) -> None:
    passes = ask("launches", dtype=dtype)

    assert [len(names) <= most for names, most in zip(passes, LAUNCHES, strict=True)] == [
        True
    ] * 2, passes
    assert passes[0].count("attend_kernel") == 1


@pytest.mark.slow
def test_two_passes_give_the_same_bits(ask: Ask) -> None:
    assert ask("twice") is True


@pytest.mark.slow
@pytest.mark.ci
def test_compiled_layer_is_one_graph_with_the_bits_of_eager(ask: Ask) -> None:
    assert ask("compiled") == [True, True, True]


@pytest.mark.slow
def test_gradients_have_gradients(ask: Ask) -> None:
    assert ask("double_backward") < 1e-5


@pytest.mark.ci
@pytest.mark.slow
def test_hooks_wrapped_layers_and_other_calls_keep_the_first_way(ask: Ask) -> None:
    found = ask("untaken")

    assert "attend_kernel" in found.pop("nothing changed")
    assert len(found) == 11
    assert all(names == [] for names in found.values()), found

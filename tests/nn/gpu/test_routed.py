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
    "convolution of 5 apart": {"side_dwconv": 5, "size": (1, 18, 16), "topk": 1, "num_heads": 1},
    "convolution apart in float16, masked": {
        "size": (1, 17, 17), "auto_pad": True, "mask_padding": True, "num_heads": 1,
        "dtype": "float16",
    },
}  # fmt: skip
# name → case of a layer whose launches are counted, and the program that only it has
LAUNCHED: dict[str, tuple[dict[str, Any], str]] = {
    "float32": ({}, "prepare_kernel"),
    "float16": ({"dtype": "float16"}, "project_kernel"),
    "bfloat16": ({"dtype": "bfloat16"}, "project_kernel"),
    "convolution apart": ({"dtype": "float16", "size": (1, 18, 16)}, "conv_kernel"),
    "refactored, NCHW": (
        {"variant": "refactored", "layout": "NCHW", "dtype": "float16"}, "convolution",
    ),
}  # fmt: skip
# operators of torch by which the host waits for a device, or sizes follow from values
WAITS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "unique", "sort",
         "argsort", "cat", "gather", "index", "scatter_add", "index_add"}  # fmt: skip


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


@pytest.mark.parametrize("name", LAUNCHED)
def test_few_programs_are_launched_and_none_waits_for_the_device(name: str, ask: Ask) -> None:
    case, own = LAUNCHED[name]

    passes = ask("launches", device="meta", **case)  # fails where the host asks for a value

    for names, most in zip(passes, LAUNCHES, strict=True):
        assert len(names) <= most, names
        assert {own, "attend_kernel"} <= set(names)
        assert not WAITS & set(names), names
        assert "map_attention" not in names  # eagerly no registered operator
    assert passes[0].count("attend_kernel") == 1


def test_map_that_is_filled_up_takes_a_few_more(ask: Ask) -> None:
    forward, both = ask("launches", device="meta", size=(1, 5, 6), auto_pad=True, dtype="float16")

    assert forward.count("constant_pad_nd") == 1
    assert [len(forward), len(both)] == [7, 26]


def test_launches_are_those_of_a_pass_with_values(ask: Ask) -> None:
    assert ask("launches", dtype="float16") == ask("launches", dtype="float16", device="meta")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "asked", "bounds"),
    [
        ({}, ["IEEE", "TF32x3"], (0.0, 2e-6)),  # IEEE: affinities, by which windows are chosen
        ({"tf32": True}, ["IEEE", "TF32"], (2e-5, 5e-3)),
        ({"dtype": "bfloat16"}, ["IEEE"], (1e-4, 2e-2)),
    ],
    ids=["float32", "TF32 where torch allows it", "bfloat16"],
)
def test_products_are_as_exact_as_torch_asks_for(
    case: dict[str, Any], asked: list[str], bounds: tuple[float, float], ask: Ask
) -> None:
    found, precisions = ask("on_tensor_cores", topk=2, **case)

    assert precisions == asked
    assert wrong(found, bounds[1]) == {}
    assert found["output"] >= bounds[0]


@pytest.mark.slow
def test_projection_in_half_precision_has_weights_of_float32(ask: Ask) -> None:
    assert wrong(ask("halved"), TOLERANCE["float16"]) == {}


@pytest.mark.slow
def test_default_way_follows_the_table_eagerly_and_compiled(ask: Ask) -> None:
    assert ask("by_evidence") == [False, True, True, False, True, True]


@pytest.mark.slow
def test_two_passes_give_the_same_bits(ask: Ask) -> None:
    assert ask("twice") is True


@pytest.mark.slow
def test_compiled_layer_is_one_graph_with_the_bits_of_eager(ask: Ask) -> None:
    assert ask("compiled") == [True, True, True]


@pytest.mark.slow
def test_gradients_have_gradients(ask: Ask) -> None:
    assert ask("double_backward") < 1e-5


@pytest.mark.slow
def test_hooks_wrapped_layers_and_other_calls_keep_the_first_way(ask: Ask) -> None:
    found = ask("untaken")

    assert "attend_kernel" in found.pop("nothing changed")
    assert len(found) == 11
    assert all(names == [] for names in found.values()), found

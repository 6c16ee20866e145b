"""Both ways of the layers on a GPU follow float64, and give the same bits twice."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from modswap.nn.gpu import gpu_way
from modswap.nn.gpu.routed.operator import plain
from modswap.nn.gpu.routed.passes import MapTensors, Setting, forward
from tests.nn.gpu import mixed_cases, routed_cases, test_mixed, test_routed
from tests.nn.gpu.test_routed import LAUNCHES, wrong
from tests.nn.test_routed_triton import CASES as WINDOWS
from tests.nn.test_routed_triton import NO_TRITON, TOLERANCE, Case, run_kernels, verdict

pytest.importorskip("triton", reason=NO_TRITON)
ROUTED = test_routed.CASES
MIXED = test_mixed.CASES
# of the largest number; products of float32 are taken in three parts on tensor cores
BARS = {"float32": 2e-6, "float16": 5e-3, "bfloat16": 4e-2}
MIXED_BARS = {"float32": 5e-6, "float16": 1e-2, "bfloat16": 4e-2}
SUM_BAR = 3e-5  # of float32's gradients of parameters of large maps: sums over all pixels
RESULTS = {"output", "output alone", "input"}
LARGE: dict[str, dict[str, Any]] = {
    "512@28": {"dim": 512, "num_heads": 8, "n_win": 7, "size": (2, 28, 28)},
    "64@56": {"dim": 64, "n_win": 7, "topk": 1, "side_dwconv": 5, "size": (2, 56, 56)},
    "256@14": {"dim": 256, "num_heads": 8, "n_win": 7, "topk": 16, "size": (2, 14, 14)},
    "128@128": {"dim": 128, "num_heads": 4, "n_win": 8, "topk": 8, "size": (1, 128, 128)},
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", WINDOWS)
def test_the_first_way_follows_the_definition(name: str, dtype: str) -> None:
    assert verdict(replace(WINDOWS[name], dtype=dtype), "cuda") == ""


def test_the_first_way_gives_the_same_bits_twice() -> None:
    case = Case(64, 8, 49, 49, 8, 4, 32, 32, dtype="float16", masked=False)

    once, again = run_kernels(case, "cuda"), run_kernels(case, "cuda")

    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("name", ROUTED)
def test_fused_routed_attention_follows_float64(name: str, dtype: str) -> None:
    case = {"topk": 2, **ROUTED[name], "dtype": dtype}

    assert wrong(routed_cases.errors(**case, device="cuda"), BARS[dtype]) == {}


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("name", LARGE)
def test_layers_of_published_networks_follow_float64(name: str, dtype: str) -> None:
    found = routed_cases.errors(**LARGE[name], dtype=dtype, device="cuda")

    sums = {name: found.pop(name) for name in set(found) - RESULTS}
    assert wrong(found, BARS[dtype]) == {}
    assert max(sums.values()) <= max(SUM_BAR, BARS[dtype]), sums


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("name", MIXED)
def test_fused_acmix_follows_float64(name: str, dtype: str) -> None:
    case = {**MIXED[name], "dtype": dtype}

    found = mixed_cases.errors(**case, device="cuda")

    assert test_mixed.outside(found, MIXED_BARS[dtype]) == {}


@pytest.mark.parametrize("name", test_routed.LAUNCHED)
def test_few_programs_are_launched(name: str) -> None:
    passes = routed_cases.launches(device="cuda", **test_routed.LAUNCHED[name][0])

    assert [len(names) <= most for names, most in zip(passes, LAUNCHES, strict=True)] == [True] * 2


def test_fused_ways_give_the_same_bits_twice() -> None:
    assert routed_cases.twice("bfloat16", "cuda")
    assert mixed_cases.twice("cuda")


def test_compiled_layers_are_one_graph() -> None:
    assert routed_cases.compiled("cuda", "inductor")[0]
    assert mixed_cases.compiled("cuda", "inductor")[0]


def test_gradients_have_gradients() -> None:
    assert routed_cases.double_backward("cuda") < 1e-5
    assert mixed_cases.double_backward("cuda") < 1e-4


def test_hooked_and_wrapped_layers_keep_the_first_way() -> None:
    found = routed_cases.untaken("cuda")

    assert "attend_kernel" in found.pop("nothing changed")
    assert all("attend_kernel" not in names for names in found.values())


def test_cuda_graph_replays_the_fused_way() -> None:
    layer = routed_cases.layer_of({}, "float32", "cuda").float()
    x, other = routed_cases.drawn(layer, (2, 8, 8), "float32", "cuda")
    with gpu_way("fused"), torch.no_grad():
        expected = layer(other)
        layer(x)  # compiles the programs
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        static = x.clone()
        with torch.cuda.graph(graph):
            y = layer(static)
        static.copy_(other)
        graph.replay()
        torch.cuda.synchronize()

    assert routed_cases.error(y, expected.double()) < 1e-6  # cuBLAS may pick other programs


def test_cuda_graph_replays_a_training_step_of_the_fused_way() -> None:
    layer = routed_cases.layer_of({}, "float32", "cuda").float()
    x, grad = routed_cases.drawn(layer, (2, 8, 8), "float32", "cuda")
    with gpu_way("fused"):
        expected = routed_cases.results(layer, x * 2, grad)
        static = x.clone().requires_grad_()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # as torch asks for, before a capture of a backward pass
            for _ in range(3):
                layer.zero_grad()
                static.grad = None
                layer(static).backward(grad)
        torch.cuda.current_stream().wait_stream(side)
        layer.zero_grad()
        static.grad = None
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(static)
            y.backward(grad)
        with torch.no_grad():
            static.copy_(x * 2)
        graph.replay()
        torch.cuda.synchronize()

    found = {"output": y, "input": static.grad}
    found |= {name: p.grad for name, p in layer.named_parameters()}
    for name, tensor in expected.items():
        replayed = found[name]
        assert replayed is not None
        assert routed_cases.error(replayed, tensor.double()) < 1e-6, name


@pytest.mark.parametrize("allowed", [False, True])
def test_tf32_is_used_where_torch_allows_it(allowed: bool) -> None:
    layer = routed_cases.layer_of({"num_heads": 1}, "float32", "cuda").float()
    x, _ = routed_cases.drawn(layer, (2, 8, 8), "float32", "cuda")
    qkv = layer.qkv.qkv(x).detach()  # in float32: the programs alone take TF32
    setting = Setting(1, 16, (4, 4, 2, 2), 4, layer.scale, masked=False)  # all windows: no choice
    given = MapTensors(x, qkv, layer.qkv.qkv.weight, layer.qkv.qkv.bias, None, None)
    wide = MapTensors._make(None if one is None else one.double() for one in given)
    exact = plain(wide, routes(), setting)
    torch.backends.cuda.matmul.allow_tf32 = allowed  # put back by `exact_products`

    with torch.no_grad():
        found = forward(given, setting, kept=False).out

    error = routed_cases.error(found, exact)
    assert (error > 2e-5) is allowed
    assert error < (5e-3 if allowed else 2e-6)


def routes() -> torch.Tensor:
    """Return the routes of two images whose 4 windows see each other, (2, 4, 4)."""
    return torch.arange(4, device="cuda").expand(2, 4, 4)

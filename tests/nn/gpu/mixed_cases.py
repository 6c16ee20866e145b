"""Cases of the fused way of ACmix, compared with float64 by the first way."""

import copy
from typing import Any

import torch
from torch import Tensor

from modswap.nn import ACmix
from modswap.nn.gpu import gpu_way
from modswap.nn.gpu.launches import counted
from tests.nn.gpu.interpreter import answer
from tests.nn.gpu.routed_cases import error, results
from tests.nn.gpu.tensor_cores import tensor_cores


def layer_of(options: dict[str, Any], dtype: str, device: str) -> Any:
    """Return a layer in float64, with its weights rounded to a type, and no symmetric taps."""
    torch.manual_seed(0)
    layer = ACmix(**{"in_planes": 6, "out_planes": 8, "head": 2, "kernel_att": 5, **options})
    with torch.no_grad():
        layer.dep_conv.weight.add_(torch.randn_like(layer.dep_conv.weight) / 4)
    return layer.to(device, getattr(torch, dtype)).double()


def drawn(layer: Any, size: tuple[int, int], dtype: str, device: str) -> tuple[Tensor, Tensor]:
    """Return an input and the gradient of its output, in a type."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, layer.in_planes, *size, generator=generator)
    grad = torch.randn(1, layer.out_planes, *size, generator=generator)
    return x.to(device, getattr(torch, dtype)), grad.to(device, getattr(torch, dtype))


def errors(
    size: tuple[int, int] = (4, 5), dtype: str = "float32", device: str = "cpu", **options: Any
) -> dict[str, float]:
    """Return the error of each result, relative to the largest number of the exact one."""
    exact = layer_of(options, dtype, device)
    x, grad = drawn(exact, size, dtype, device)
    with gpu_way("windows"):
        wanted = results(exact, x.double(), grad.double())
    layer = copy.deepcopy(exact).to(getattr(torch, dtype))
    with gpu_way("fused"), counted() as names:
        found = results(layer, x, grad)
        with torch.no_grad():
            found["output alone"] = layer(x)
    assert "local_key_grad_kernel" in names, "the first way ran"
    wanted["output alone"] = wanted["output"]
    assert found.keys() == wanted.keys(), (found.keys(), wanted.keys())
    return {name: error(found[name], wanted[name]) for name in wanted}


def on_tensor_cores(*, tf32: bool = False, **case: Any) -> list[Any]:
    """Return the errors with products as tensor cores take them, and in which precisions."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    with tensor_cores() as asked:
        found = errors(**case)
    torch.backends.cuda.matmul.allow_tf32 = False
    return [found, sorted(set(asked))]


def twice(device: str = "cpu") -> bool:
    """Return whether two passes give the same bits."""
    layer = layer_of({}, "float32", device).float()
    x, grad = drawn(layer, (4, 5), "float32", device)
    with gpu_way("fused"):
        once, again = results(layer, x, grad), results(layer, x, grad)
    return all(torch.equal(once[name], again[name]) for name in once)


def compiled(device: str = "cpu", backend: str = "aot_eager") -> list[bool]:
    """Return whether a compiled layer is a single graph, and gives eager's bits with gradients."""
    layer = layer_of({"kernel_att": 3}, "float32", device).float()
    x, grad = drawn(layer, (3, 4), "float32", device)
    with gpu_way("fused"):
        eager = results(layer, x, grad)
        whole: Any = torch.compile(layer, fullgraph=True, backend=backend)
        with counted() as names:
            found = results(whole, x, grad)
    found = {name.removeprefix("_orig_mod."): tensor for name, tensor in found.items()}
    close = {name: error(found[name], eager[name].double()) < 1e-6 for name in eager}
    return ["local_key_grad_kernel" in names, torch.equal(eager["output"], found["output"]),
            all(close.values())]  # fmt: skip


def double_backward(device: str = "cpu") -> float:
    """Return the error of a gradient of a gradient."""
    exact = layer_of({"kernel_att": 3}, "float32", device)
    x, _ = drawn(exact, (3, 4), "float32", device)
    layer = copy.deepcopy(exact).float()
    with gpu_way("fused"):
        found = _curvature(layer, x)
    return error(found, _curvature(exact, x.double()))


def _curvature(layer: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    second: Tensor
    (second,) = torch.autograd.grad(first.square().sum(), x)
    return second


def untaken(device: str = "cpu") -> dict[str, list[str]]:
    """Return what is launched for layers that keep the first way."""
    return {name: _launched(options, device) for name, options in UNTAKEN.items()}


def _launched(options: dict[str, Any], device: str) -> list[str]:
    layer = layer_of({"kernel_att": 3, **options}, "float32", device).float()
    x, _ = drawn(layer, (4, 4), "float32", device)
    with gpu_way("fused"), counted() as names, torch.no_grad():
        layer(x)
    return names


UNTAKEN: dict[str, dict[str, Any]] = {
    "nothing changed": {},
    "stride": {"stride": 2},
    "convolution of 5": {"kernel_conv": 5},
    "heads": {"head": 8},
    "window of one pixel": {"kernel_att": 1},
}

if __name__ == "__main__":
    answer(
        {
            f.__name__: f
            for f in (errors, on_tensor_cores, twice, compiled, double_backward, untaken)
        }
    )

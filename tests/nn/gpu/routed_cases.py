"""Cases of the fused way of bi-level routing attention, compared with float64 by the first way."""

import copy
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._dynamo.backends.registry import lookup_backend
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from modswap.nn import BiLevelRoutingAttention
from modswap.nn.gpu import evidence, gpu_way, way
from modswap.nn.gpu import launches as launching
from modswap.nn.gpu.launches import KernelLaunch, counted
from modswap.nn.gpu.routed.layer import measured_call
from modswap.nn.gpu.routed.operator import map_attention, plain
from modswap.nn.gpu.routed.passes import MapTensors, Setting
from tests.nn.gpu.interpreter import answer
from tests.nn.gpu.tensor_cores import tensor_cores

VIEWS = {
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "split", "unbind",
    "detach", "alias", "unsqueeze", "select", "as_strided", "empty", "new_empty", "empty_like",
    "reshape", "split_with_sizes",
}  # fmt: skip


def layer_of(options: dict[str, Any], dtype: str, device: str) -> Any:
    """Return a layer in float64, with its weights rounded to a type."""
    torch.manual_seed(0)
    layer = BiLevelRoutingAttention(**{"dim": 16, "num_heads": 2, "n_win": 2, **options})
    return layer.to(device, getattr(torch, dtype)).double()


def drawn(layer: Any, size: tuple[int, int, int], dtype: str, device: str) -> tuple[Tensor, Tensor]:
    """Return an input and the gradient of its output, in a type."""
    N, H, W = size
    shape = (N, H, W, layer.dim) if layer.layout == "NHWC" else (N, layer.dim, H, W)
    generator = torch.Generator().manual_seed(1)
    x, grad = (torch.randn(shape, generator=generator) for _ in range(2))
    return x.to(device, getattr(torch, dtype)), grad.to(device, getattr(torch, dtype))


def results(layer: Any, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Return output and all gradients of a layer for an input."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(grad)
    found = {"output": y.detach(), "input": x.grad}
    found |= {name: p.grad for name, p in layer.named_parameters()}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def errors(
    size: tuple[int, int, int] = (1, 4, 4), dtype: str = "float32", device: str = "cpu",
    **options: Any,
) -> dict[str, float]:  # fmt: skip
    """Return the error of each result, relative to the largest number of the exact one."""
    exact = layer_of(options, dtype, device)
    x, grad = drawn(exact, size, dtype, device)
    wanted = results(exact, x.double(), grad.double())
    layer = copy.deepcopy(exact).to(getattr(torch, dtype))
    with gpu_way("fused"), counted() as names:
        found = results(layer, x, grad)
        with torch.no_grad():
            found["output alone"] = layer(x)
    assert "key_grad_kernel" in names, "the first way ran"
    wanted["output alone"] = wanted["output"]
    assert found.keys() == wanted.keys(), (found.keys(), wanted.keys())
    return {name: error(found[name], wanted[name]) for name in wanted}


def error(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, relative to the largest number; infinite for nan."""
    if not found.isfinite().all():
        return float("inf")
    return float((found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-3))


def on_tensor_cores(*, tf32: bool = False, **case: Any) -> list[Any]:
    """Return the errors with products as tensor cores take them, and in which precisions."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    with tensor_cores() as asked:
        found = errors(**case)
    torch.backends.cuda.matmul.allow_tf32 = False
    return [found, sorted(set(asked))]


class Kernels(TorchDispatchMode):
    """Counts the operators of torch that are no views and allocations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def launches(
    dtype: str = "float32", device: str = "cpu", size: tuple[int, int, int] = (1, 4, 4),
    **options: Any,
) -> list[list[str]]:  # fmt: skip
    """Return what is launched forward without gradients, and in a forward and backward pass.

    On the meta device no tensor has values: a step that waited for them would fail.
    """
    layer = layer_of(options, dtype, device).to(getattr(torch, dtype))
    x, grad = drawn(layer, size, dtype, device)
    with gpu_way("fused"), patch.object(KernelLaunch, "__call__", _unseen):
        with torch.no_grad(), counted() as names, Kernels() as kernels:
            layer(x)
        forward = names + kernels.names
        x.requires_grad_()
        layer(x).backward(grad)  # makes the parameters' gradients that the next pass adds to
        x.grad = None  # in a network, the input is no leaf
        with counted() as names, Kernels() as kernels:
            layer(x).backward(grad)
    return [forward, names + kernels.names]


_launch = KernelLaunch.__call__


def _unseen(self: KernelLaunch, *tensors: Tensor) -> None:
    """Count a program, and run it on a GPU alone: what it would write is not looked at."""
    if tensors[0].is_cuda:
        with _disable_current_modes():
            _launch(self, *tensors)
    else:
        for names in launching._counted:
            names.append(self.kernel.__name__)


def twice(dtype: str = "float32", device: str = "cpu") -> bool:
    """Return whether two passes give the same bits."""
    layer = layer_of({"n_win": 3}, dtype, device).to(getattr(torch, dtype))
    x, grad = drawn(layer, (1, 6, 6), dtype, device)
    with gpu_way("fused"):
        once, again = results(layer, x, grad), results(layer, x, grad)
    return all(torch.equal(once[name], again[name]) for name in once)


class Noted:
    """A backend of `torch.compile` that keeps the steps of each graph."""

    def __init__(self, backend: str) -> None:
        self.backend = lookup_backend(backend)
        self.graphs: list[list[str]] = []

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs.append([str(node.target) for node in graph.graph.nodes])
        return self.backend(graph, inputs)


def compiled(device: str = "cpu", backend: str = "aot_eager") -> list[bool]:
    """Return whether a compiled layer is a single graph, and gives eager's bits with gradients."""
    layer = layer_of({}, "float32", device).float()
    x, grad = drawn(layer, (1, 4, 4), "float32", device)
    noted = Noted(backend)
    with gpu_way("fused"):
        eager = results(layer, x, grad)
        whole: Any = torch.compile(layer, fullgraph=True, backend=noted)
        with counted() as names:
            found = results(whole, x, grad)
        with torch.no_grad():
            alone = whole(x)
    found = {name.removeprefix("_orig_mod."): tensor for name, tensor in found.items()}
    same = all(torch.equal(eager[name], found[name]) for name in eager)
    recorded = all("modswap.map_attention.default" in graph for graph in noted.graphs)
    ran = "key_grad_kernel" in names and recorded and len(noted.graphs) == 2
    return [ran, same, torch.equal(alone, eager["output"])]


def by_evidence() -> list[bool]:
    """Return whether the default way follows the table: empty, with a row, and compiled.

    Compiled with the row's size, with another, and with larger batches.
    """
    layer = layer_of({}, "float32", "cpu").float()
    x, _ = drawn(layer, (1, 4, 4), "float32", "cpu")
    whole: Any = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        call = measured_call(layer, x)
        times = {"windows": {"forward": 2.0}, "fused": {"forward": 1.0}}
        key = (call.layer, call.sizes, call.dtype, "sm_80")
        rows = {key: [{"batch": call.batch, **times}]}
        found = [_takes(layer, x)]
        with patch.object(evidence, "ROWS", rows), patch.object(way, "ROWS", rows):
            found += [_takes(layer, x), _takes(whole, x), _takes(whole, x[:, :2])]
            found += [_takes(whole, x.repeat(n, 1, 1, 1)) for n in (2, 3)]
    return found


def _takes(layer: Any, x: Tensor) -> bool:
    with counted() as names:
        layer(x)
    return "attend_kernel" in names


def halved(dtype: str = "float16") -> dict[str, float]:
    """Return the errors where the projection alone is in half precision, as under autocast."""
    layer = layer_of({"topk": 4}, "float32", "cpu").float()
    x, grad = drawn(layer, (1, 4, 4), "float32", "cpu")
    projection, lepe = layer.qkv.qkv, layer.lepe
    qkv = projection(x).detach().to(getattr(torch, dtype)).requires_grad_()
    given = MapTensors(x, qkv, projection.weight, projection.bias, lepe.weight, lepe.bias)
    setting = Setting(2, 16, (2, 2, 2, 2), 4, layer.scale, masked=False)  # all windows: no choice
    map_attention(given, setting).backward(grad.to(qkv.dtype))
    found = {"input": qkv.grad, "weight": lepe.weight.grad, "bias": lepe.bias.grad}
    wide = MapTensors._make(
        None if t is None else t.detach().double().requires_grad_() for t in given
    )
    plain(wide, torch.arange(4).expand(1, 4, 4), setting).backward(grad.double())
    wanted = {"input": wide.qkv.grad, "weight": wide[4].grad, "bias": wide[5].grad}  # type: ignore[union-attr] # both there
    return {
        name: error(found[name], tensor) for name, tensor in wanted.items() if tensor is not None
    }


def double_backward(device: str = "cpu") -> float:
    """Return the error of a gradient of a gradient, with windows outside of the map masked."""
    options = {"auto_pad": True, "mask_padding": True, "topk": 2}
    exact = layer_of(options, "float32", device)
    x, _ = drawn(exact, (1, 5, 6), "float32", device)
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
    """Return what is launched for layers and calls that keep the first way."""
    found = {name: _launched(one, device) for name, one in UNTAKEN.items()}
    return {**found, "transform of the parameters": _transformed(device)}


def _transformed(device: str) -> list[str]:
    """Return what is launched where `torch.func` differentiates by the parameters."""
    layer = layer_of({}, "float32", device).float()
    x, _ = drawn(layer, (1, 4, 4), "float32", device)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        output: Tensor = torch.func.functional_call(layer, weights, (x.float(),))
        return output.square().sum()

    with gpu_way("fused"), counted() as names:
        torch.func.grad(loss)({name: one.detach() for name, one in layer.named_parameters()})
    return names


def _launched(change: Any, device: str) -> list[str]:
    layer = layer_of({}, "float32", device).float()
    x, _ = drawn(layer, (1, 4, 4), "float32", device)
    kwargs: dict[str, Any] = change(layer) or {}
    with gpu_way("fused"), counted() as names, torch.no_grad():
        layer(x.to(layer.wo.weight.dtype), **kwargs)
    return names


class Wrapped(torch.nn.Linear):
    """A projection that somebody has wrapped."""


def _wrap(layer: Any) -> None:
    layer.qkv.qkv = Wrapped(16, 48, device=layer.qkv.qkv.weight.device)


class Quantised(torch.nn.Parameter):
    """A weight of a class of its own, as quantising puts into torch's layers."""


def _quantise(layer: Any) -> None:
    layer.qkv.qkv.weight = Quantised(layer.qkv.qkv.weight.detach())


UNTAKEN = {
    "nothing changed": lambda _: {},
    "hook of the router": lambda layer: layer.router.register_forward_hook(lambda *_: None) and {},
    "hook of the convolution": lambda layer: (
        layer.lepe.register_forward_pre_hook(lambda *_: None) and {}
    ),
    "wrapped projection": _wrap,
    "quantised projection": _quantise,
    "another topk of the router": lambda layer: setattr(layer.router, "topk", 1),
    "another scale of the router": lambda layer: setattr(layer.router, "scale", -1.0),
    "projected router": lambda layer: setattr(
        layer.router, "emb", torch.nn.Linear(16, 16, device=layer.wo.weight.device)
    ),
    "routing asked for": lambda _: {"return_routing": True},
    "attention asked for": lambda _: {"ret_attn_mask": True},
    "float64": lambda layer: layer.double() and {},
}

if __name__ == "__main__":
    asked = (
        halved,
        errors,
        on_tensor_cores,
        launches,
        twice,
        compiled,
        by_evidence,
        double_backward,
        untaken,
    )
    answer({f.__name__: f for f in asked})

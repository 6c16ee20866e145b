"""Cases of the fused way of bi-level routing attention, run against float64 by Triton's interpreter.

The interpreter is chosen before triton is imported, so this file is also a program: it reads a case
from each line and answers with its errors.
"""

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

TOLERANCE = {"float32": 2e-6, "float16": 2e-2, "bfloat16": 1.5e-1}  # of the largest number


@dataclass(frozen=True)
class Case:
    """A layer, its input, and how to compare it."""

    options: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int, int] = (2, 6, 6)  # images, height, width
    dtype: str = "float32"
    device: str = "cpu"


def layer_of(case: Case) -> Any:
    """Return the layer of a case, in float64, with the case's rounding of its weights."""
    from modswap.nn import BiLevelRoutingAttention

    torch.manual_seed(0)
    options = {"dim": 16, "num_heads": 2, "n_win": 3, "topk": 2, **case.options}
    layer = BiLevelRoutingAttention(**options)
    return layer.to(case.device, getattr(torch, case.dtype)).double()


def results(layer: Any, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Return output and all gradients of a layer for an input."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(grad)
    found = {"output": y.detach(), "input": x.grad}
    found |= {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def drawn(case: Case) -> tuple[Tensor, Tensor]:
    """Return an input of a case and the gradient of its output, in its type."""
    N, H, W = case.size
    dim = case.options.get("dim", 16)
    shape = (N, H, W, dim) if case.options.get("layout", "NHWC") == "NHWC" else (N, dim, H, W)
    generator = torch.Generator().manual_seed(1)
    x, grad = (torch.randn(shape, generator=generator) for _ in range(2))
    dtype = getattr(torch, case.dtype)
    return x.to(case.device, dtype), grad.to(case.device, dtype)


def errors(case: Case) -> dict[str, float]:
    """Return the largest error of each result, relative to the largest number of the exact one."""
    import copy

    from modswap.nn.gpu.launches import counted
    from modswap.nn.gpu.way import gpu_way

    exact = layer_of(case)
    x, grad = drawn(case)
    wanted = results(exact, x.double(), grad.double())
    layer = copy.deepcopy(exact).to(getattr(torch, case.dtype))
    with gpu_way("fused"), counted() as names:
        found = results(layer, x, grad)
    assert "key_grad_kernel" in names, "the first way ran"
    assert found.keys() == wanted.keys(), (found.keys(), wanted.keys())
    return {name: _error(found[name], wanted[name]) for name in wanted}


def _error(found: Tensor, wanted: Tensor) -> float:
    if not found.isfinite().all():
        return float("inf")
    return float((found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-3))


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(errors(Case(**json.loads(line)))) + "\n")
        sys.stdout.flush()

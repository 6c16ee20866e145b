"""The layers that `benchmarks/gpu.py` measures, and their comparison with float64."""

import argparse
import copy
import importlib.util
import json
from dataclasses import dataclass, field
from typing import Any

import torch

# of the largest number of a result
BARS = {"float32": 2e-6, "tf32": 1e-2, "float16": 5e-3, "bfloat16": 4e-2}
SUM_BAR = 3e-5  # of float32's gradients of parameters: sums over all pixels, in torch's ways too
CANCELLING = {"conv_p.weight", "rate1", "rate2"}  # of ACmix: gradients that are differences of sums
CANCELLING_FACTOR = 5
CHECKED_SIDE = 200  # larger maps are timed, and not compared with float64


@dataclass(frozen=True, slots=True)
class Row:
    """A layer, its input and its type."""

    layer: str
    name: str
    batch: int
    dtype: str
    side: int
    options: dict[str, Any] = field(default_factory=dict)
    compiled: bool = False  # whether layers are timed under torch.compile too

    def __str__(self) -> str:
        return f"{self.layer} {self.name} N{self.batch} {self.dtype}"

    @property
    def mixed(self) -> bool:
        """Return whether the layer is ACmix."""
        return self.layer == "ACmix"


ROUTED: dict[str, dict[str, Any]] = {
    "512@28": {"dim": 512, "num_heads": 8, "topk": 4},
    "64@56": {"dim": 64, "num_heads": 2, "topk": 1, "side_dwconv": 5},
    "128@28": {"dim": 128, "num_heads": 4, "topk": 4, "side_dwconv": 5},
    "256@14": {"dim": 256, "num_heads": 8, "topk": 16, "side_dwconv": 5},
    "128@128": {"dim": 128, "num_heads": 4, "topk": 8, "n_win": 8, "side_dwconv": 5},
    "128@256": {"dim": 128, "num_heads": 4, "topk": 8, "n_win": 8, "side_dwconv": 5},
}


def routed(name: str, batch: int, dtype: str, *, compiled: bool = False) -> Row:
    """Return a row of bi-level routing attention."""
    side = int(name.partition("@")[2])
    return Row("BiLevelRoutingAttention", name, batch, dtype, side, ROUTED[name], compiled)


def mixed(name: str, batch: int, dtype: str) -> Row:
    """Return a row of ACmix."""
    planes, side = map(int, name.split("@"))
    options = {"in_planes": planes, "out_planes": planes}
    return Row("ACmix", name, batch, dtype, side, options)


SHORT = (
    routed("512@28", 64, "bfloat16", compiled=True),
    routed("128@28", 64, "bfloat16", compiled=True),
    routed("512@28", 8, "bfloat16"),
    routed("64@56", 64, "bfloat16"),
    routed("512@28", 64, "float32"),
    routed("128@128", 8, "bfloat16"),
    routed("128@128", 8, "float32"),
    mixed("512@28", 8, "bfloat16"),
    mixed("64@56", 64, "float32"),
)
LONG = (
    *SHORT,
    routed("64@56", 64, "float32", compiled=True),
    routed("128@28", 64, "float32"),
    routed("256@14", 64, "bfloat16", compiled=True),
    routed("256@14", 64, "float32"),
    routed("512@28", 1, "bfloat16"),
    routed("512@28", 64, "tf32"),
    routed("128@128", 8, "tf32"),
    routed("128@256", 2, "bfloat16"),
    routed("128@256", 2, "float32"),
    mixed("512@28", 8, "float32"),
    mixed("64@56", 64, "bfloat16"),
    mixed("256@14", 64, "bfloat16"),
    mixed("256@14", 64, "float32"),
)
TINY = (
    Row("BiLevelRoutingAttention", "16@4", 1, "float32", 4,
        {"dim": 16, "num_heads": 2, "n_win": 2, "topk": 2}, compiled=True),
    Row("ACmix", "4@2", 1, "float16", 2,
        {"in_planes": 4, "out_planes": 4, "head": 1, "kernel_att": 3}),
)  # fmt: skip


def set_precision(row: Row) -> None:
    """Have torch take products of float32 as the row says."""
    # the older of torch's two switches: torch.compile reads it, and refuses a mixture of both
    torch.backends.cuda.matmul.allow_tf32 = row.dtype == "tf32"
    # convolutions too: else the published class is timed in another precision than the ways
    torch.backends.cudnn.allow_tf32 = row.dtype == "tf32"


def dtype_of(row: Row) -> torch.dtype:
    """Return torch's type of a row."""
    found: torch.dtype = getattr(torch, "float32" if row.dtype == "tf32" else row.dtype)
    return found


def ours(row: Row, device: str) -> Any:
    """Return modswap's layer of a row."""
    from modswap import nn

    torch.manual_seed(0)
    return getattr(nn, row.layer)(**row.options).to(device, dtype_of(row))


def published(row: Row, args: argparse.Namespace) -> Any:
    """Return the published layer of a row, or the reference of the tests, which follows it."""
    file = args.published_acmix if row.mixed else args.published
    torch.manual_seed(0)
    if file:
        made = load_class(file, row.layer)(**row.options)
    elif row.mixed:
        from tests.nn.acmix_reference import ACmix

        made = ACmix(**row.options)
    else:
        from tests.nn.routing_published_order import PublishedOrder

        made = PublishedOrder(**row.options)
    return made.to(args.device, dtype_of(row))


def load_class(file: str, name: str) -> Any:
    """Return a class of a Python file that the user named.

    Raises:
        ImportError: If the file has no such class.
    """
    spec = importlib.util.spec_from_file_location("published", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise ImportError(f"{file} has no class {name}")
    return getattr(module, name)


class Floor(torch.nn.Module):
    """The projections, and torch's depthwise or grouped convolution, by themselves."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.mixed, self.C = row.mixed, row.options["out_planes" if row.mixed else "dim"]
        C = self.C  # noqa: N806 - as in the papers
        heads = row.options.get("head", 4)
        k, groups = (3, C // heads) if row.mixed else (row.options.get("side_dwconv", 3), C)
        self.first, self.last = torch.nn.Linear(C, 3 * C), torch.nn.Linear(C, C)
        inputs = groups * 3 * heads if row.mixed else C
        self.conv = torch.nn.Conv2d(inputs, C, k, padding=k // 2, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the input's shape."""
        qkv = self.first(x.permute(0, 2, 3, 1) if self.mixed else x)
        values = qkv if self.mixed else qkv[..., 2 * self.C :]
        near: torch.Tensor = self.conv(values.permute(0, 3, 1, 2))
        if self.mixed:
            return near
        out: torch.Tensor = self.last(near.permute(0, 2, 3, 1) + qkv[..., : self.C])
        return out


def floor(row: Row, device: str) -> Any:
    """Return the part of a layer that torch computes in every way."""
    return Floor(row).to(device, dtype_of(row))


def shape_of(row: Row, batch: int) -> tuple[int, int, int, int]:
    """Return the shape of an input, and of its output."""
    channels = row.options["in_planes" if row.mixed else "dim"]
    if row.mixed:
        return batch, channels, row.side, row.side
    return batch, row.side, row.side, channels


def drawn(row: Row, device: str, batch: int) -> tuple[Any, Any]:
    """Return an input and a gradient, with the same numbers on every device."""
    generator, shape = torch.Generator().manual_seed(1), shape_of(row, batch)
    x, grad = (torch.randn(shape, generator=generator).to(device, dtype_of(row)) for _ in "ab")
    return x, grad


def filled(row: Row, device: str) -> tuple[Any, Any]:
    """Return an input and a gradient of the full batch, drawn where they are."""
    shape = shape_of(row, row.batch)
    x, grad = (torch.randn(shape, device=device, dtype=dtype_of(row)) for _ in "ab")
    return x, grad


def in_one_line(error: BaseException) -> str:
    """Return the kind of an error and the beginning of its text, quoted."""
    return f"{type(error).__name__}: {json.dumps(str(error)[:120], ensure_ascii=False)}"


def failing(row: Row, way: str, device: str) -> str:
    """Return how a way differs from float64, or an empty text."""
    from modswap.nn.gpu import gpu_way
    from modswap.nn.gpu.launches import counted

    if row.side > CHECKED_SIDE:
        return ""  # float64 would not fit the time; smaller maps run the same programs
    layer = ours(row, device)
    x, grad = drawn(row, device, batch=min(row.batch, 2 if row.side < 100 else 1))
    exact = results(exact_layer(row, layer, x), x.double(), grad.double())
    with gpu_way(way), counted() as names:
        found = results(layer, x, grad)
        with torch.no_grad():
            found["output alone"] = layer(x)
    exact["output alone"] = exact["output"]
    if way == "fused" and not names:
        return "not fused at this size"
    errors = {k: error_of(found[k], exact[k]) for k in exact}
    name = max(errors, key=lambda k: errors[k] / bar_of(row, k))
    worst = errors[name]
    return "" if worst <= bar_of(row, name) else f"WRONG: {name} by {worst:.1e}"


def bar_of(row: Row, name: str) -> float:
    """Return the largest error that a result may have."""
    bar = BARS[row.dtype]
    if name not in {"output", "output alone", "input"}:
        bar = max(bar, SUM_BAR)
    return bar * CANCELLING_FACTOR if name in CANCELLING else bar


def exact_layer(row: Row, layer: Any, x: torch.Tensor) -> Any:
    """Return a layer in float64; with products in TF32 it attends to the windows that those choose.

    Affinities whose difference is below the precision of TF32 may choose others.
    """
    exact = copy.deepcopy(layer).double()
    if row.dtype == "tf32" and not row.mixed:
        with torch.no_grad():
            chosen = layer(x, return_routing=True)[1].indices
        exact.router.register_forward_hook(lambda _, __, routing: routing._replace(indices=chosen))
    return exact


def results(layer: Any, x: Any, grad: Any) -> dict[str, Any]:
    """Return output and gradients."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(grad)
    return {"output": y.detach(), "input": x.grad,
            **{n: p.grad for n, p in layer.named_parameters() if p.grad is not None}}  # fmt: skip


def error_of(found: Any, wanted: Any) -> float:
    """Return the largest difference, relative to the largest number; infinite for nan."""
    if not found.isfinite().all():
        return float("inf")
    return float((found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-3))

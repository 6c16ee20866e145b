"""Time BiLevelRoutingAttention and ACmix on a GPU, by each way, beside the published classes.

    python benchmarks/gpu.py [--short] [--write] [--published FILE] [--published-acmix FILE]
    python benchmarks/gpu.py --device cpu --interpret     a tiny run that needs no GPU

Each row compares every way with float64 first; a way that is wrong is not timed. Then it prints
medians by the device's clock, in milliseconds forward / forward and backward: the published class
(without its file the plain reference of the tests), the same under torch.compile, the two ways of
modswap, and the floor: projections and depthwise convolution alone. Behind them are peak memory of
a training pass, launches and the host's time of a call. --write adds what was measured to the
table that chooses between the ways. --short starts no row after 150 seconds. Without a GPU it says
so and exits with 3.
"""

import argparse
import copy
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

BARS = {"float32": 2e-6, "tf32": 3e-3, "float16": 5e-3, "bfloat16": 4e-2}  # of the largest number
CHECKED_SIDE = 200  # larger maps are timed, and not compared with float64
NO_DEVICE = 3
SECONDS = 150.0  # of a short run
BUDGET = 0.4  # seconds for the timing of one cell


@dataclass(frozen=True, slots=True)
class Row:
    """A layer, its input and its type."""

    layer: str
    name: str
    batch: int
    dtype: str
    side: int
    options: dict[str, Any] = field(default_factory=dict)
    compiled: bool = False  # whether the published class is timed under torch.compile too

    def __str__(self) -> str:
        return f"{self.layer} {self.name} N{self.batch} {self.dtype}"


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
        {"dim": 16, "num_heads": 2, "n_win": 2, "topk": 2}),
    Row("ACmix", "4@4", 1, "float16", 4,
        {"in_planes": 4, "out_planes": 4, "head": 2, "kernel_att": 3}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """The measurements of one way; None for what failed."""

    forward: float | None = None  # milliseconds
    training: float | None = None
    mebibytes: float = 0.0
    launches: tuple[int, int] = (0, 0)
    host: tuple[float, float] = (0.0, 0.0)  # milliseconds
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return self.error
        times = "/".join("–" if t is None else f"{t:.3f}" for t in (self.forward, self.training))
        more = f"{self.mebibytes:.0f} MiB, {self.launches[0]}/{self.launches[1]} launches"
        return f"{times} ({more}, host {self.host[0]:.2f}/{self.host[1]:.2f})"


def main() -> int:
    """Measure, print, and write if asked to."""
    args = arguments()
    if args.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("no GPU here; `--device cpu --interpret` tries the rest of this file\n")
        return NO_DEVICE
    started = time.monotonic()
    print(versions(args.device))  # noqa: T201 - a program
    if not (args.published and args.published_acmix):
        print("published: the plain reference of the tests, where no file is named")  # noqa: T201 - a program
    rows = TINY if args.interpret else SHORT if args.short else LONG
    measured = []
    for row in rows:
        if args.short and time.monotonic() - started > SECONDS:
            print(f"{row}: no time left")  # noqa: T201 - a program
            continue
        cells = measure(row, args)
        print(f"{row}: " + " | ".join(f"{k} {v}" for k, v in cells.items()), flush=True)  # noqa: T201 - a program
        measured.append((row, cells))
    print(f"{time.monotonic() - started:.0f} s")  # noqa: T201 - a program
    if args.write:
        write(measured, args.device)
    return 0


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--published", default="")
    parser.add_argument("--published-acmix", default="")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--interpret", action="store_true")
    args = parser.parse_args()
    if args.interpret != (args.device == "cpu"):
        parser.error("--device cpu and --interpret go together")
    if args.write and args.interpret:
        parser.error("--write needs a GPU: an interpreter's times choose nothing")
    return args


def versions(device: str) -> str:
    """Return card and versions."""
    import torch

    parts = [f"torch {torch.__version__}"]
    if importlib.util.find_spec("triton") is not None:
        import triton

        parts.append(f"triton {triton.__version__}")
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU, Triton's interpreter"
    return ", ".join([card, *parts, datetime.now(UTC).date().isoformat()])


def measure(row: Row, args: argparse.Namespace) -> dict[str, Cell]:
    """Return what was measured of a row, by way."""
    import torch

    torch.backends.cuda.matmul.fp32_precision = "tf32" if row.dtype == "tf32" else "ieee"
    # convolutions too: else the published class is timed in another precision than the ways
    torch.backends.cudnn.allow_tf32 = row.dtype == "tf32"
    wrong = {way: fault_of(row, way, args.device) for way in ("windows", "fused")}
    cells = {}
    for name, make in makers(row, args).items():
        fault = wrong.get(name, "")
        try:
            cells[name] = Cell(error=fault) if fault else timed(row, *make(), args.device)
        except Exception as error:  # noqa: BLE001 - out of memory, or a compiler's own; others go on
            cells[name] = Cell(error=f"{type(error).__name__}: {str(error)[:60]!r}")
        if args.device == "cuda":
            torch.cuda.empty_cache()
    return cells


Made = tuple[Any, str]  # a layer, and the way that computes it


def makers(row: Row, args: argparse.Namespace) -> dict[str, Callable[[], Made]]:
    """Return what is timed, by name."""
    import torch

    found: dict[str, Callable[[], Made]] = {
        "published": lambda: (published(row, args), "windows"),
        "windows": lambda: (ours(row, args.device), "windows"),
        "fused": lambda: (ours(row, args.device), "fused"),
        "floor": lambda: (floor(row, args.device), "windows"),
    }
    if row.compiled:
        found["compiled"] = lambda: (torch.compile(published(row, args)), "windows")
    return found


def dtype_of(row: Row) -> Any:
    """Return torch's type of a row."""
    import torch

    return getattr(torch, "float32" if row.dtype == "tf32" else row.dtype)


def ours(row: Row, device: str) -> Any:
    """Return modswap's layer of a row."""
    import torch

    from modswap import nn

    torch.manual_seed(0)
    return getattr(nn, row.layer)(**row.options).to(device, dtype_of(row))


def published(row: Row, args: argparse.Namespace) -> Any:
    """Return the published layer of a row, or the reference of the tests, which follows it."""
    import torch

    file = args.published if row.layer != "ACmix" else args.published_acmix
    torch.manual_seed(0)
    if file:
        spec = importlib.util.spec_from_file_location("published", file)
        if spec is None or spec.loader is None:
            raise SystemExit(f"{file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made = getattr(module, row.layer)(**row.options)
    elif row.layer == "ACmix":
        from tests.nn.acmix_reference import ACmix

        made = ACmix(**row.options)
    else:
        from tests.nn.routing_published_order import PublishedOrder

        made = PublishedOrder(**row.options)
    return made.to(args.device, dtype_of(row))


def floor(row: Row, device: str) -> Any:
    """Return the projections, and torch's depthwise or grouped convolution, by themselves."""
    import torch

    class Floor(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            mixed = row.layer == "ACmix"
            C = row.options["out_planes" if mixed else "dim"]  # noqa: N806 - as in the papers
            k, groups = (3, C // 4) if mixed else (row.options.get("side_dwconv", 3), C)
            self.mixed, self.C = mixed, C
            self.first, self.last = torch.nn.Linear(C, 3 * C), torch.nn.Linear(C, C)
            inputs = groups * 12 if mixed else C
            self.conv = torch.nn.Conv2d(inputs, C, k, padding=k // 2, groups=max(1, groups))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps = x.permute(0, 2, 3, 1) if self.mixed else x
            qkv = self.first(maps)
            values = qkv if self.mixed else qkv[..., 2 * self.C :]
            near = self.conv(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            if self.mixed:
                return near.permute(0, 3, 1, 2)
            out: torch.Tensor = self.last(near + qkv[..., : self.C])
            return out

    return Floor().to(device, dtype_of(row))


def drawn(row: Row, device: str, batch: int | None = None) -> tuple[Any, Any]:
    """Return an input and a gradient."""
    import torch

    N, side = batch or row.batch, row.side  # noqa: N806 - as in the papers
    channels = row.options["in_planes" if row.layer == "ACmix" else "dim"]
    shape = (N, channels, side, side) if row.layer == "ACmix" else (N, side, side, channels)
    generator = torch.Generator().manual_seed(1)
    x, grad = (torch.randn(shape, generator=generator).to(device, dtype_of(row)) for _ in "ab")
    return x, grad


def fault_of(row: Row, way: str, device: str) -> str:
    """Return how a way differs from float64, or what it raises; an empty text if it is right."""
    try:
        return failing(row, way, device)
    except Exception as error:  # noqa: BLE001 - out of memory, or a compiler's own; others go on
        return f"{type(error).__name__}: {str(error)[:60]!r}"


def failing(row: Row, way: str, device: str) -> str:
    """Return how a way differs from float64, or an empty text."""
    import torch

    from modswap.nn.gpu import gpu_way
    from modswap.nn.gpu.launches import counted

    layer = ours(row, device)
    x, grad = drawn(row, device, batch=2 if row.side < 100 else 1)
    if row.side > CHECKED_SIDE:
        return ""  # float64 would not fit the time; smaller maps run the same programs
    exact = results(copy.deepcopy(layer).double(), x.double(), grad.double())
    with gpu_way(way), counted() as names:
        found = results(layer, x, grad)
        with torch.no_grad():
            found["output alone"] = layer(x)
    exact["output alone"] = exact["output"]
    if way == "fused" and not names:
        return "not fused at this size"
    errors = {k: error(found[k], exact[k]) for k in exact}
    name, worst = max(errors.items(), key=lambda one: one[1])
    return "" if worst <= BARS[row.dtype] else f"WRONG: {name} by {worst:.1e}"


def results(layer: Any, x: Any, grad: Any) -> dict[str, Any]:
    """Return output and gradients."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(grad)
    return {"output": y.detach(), "input": x.grad,
            **{n: p.grad for n, p in layer.named_parameters() if p.grad is not None}}  # fmt: skip


def error(found: Any, wanted: Any) -> float:
    """Return the largest difference, relative to the largest number; infinite for nan."""
    if not found.isfinite().all():
        return float("inf")
    return float((found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-3))


def timed(row: Row, layer: Any, way: str, device: str) -> Cell:
    """Return the measurements of a layer computed in one way."""
    import torch

    from modswap.nn.gpu import gpu_way

    x, grad = drawn(row, device)
    leaf = x.clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def training() -> None:
        leaf.grad = None
        y = layer(leaf)
        y.backward(grad[..., : y.shape[-1]] if grad.shape != y.shape else grad)

    with gpu_way(way):
        for _ in range(1 if device == "cpu" else 3):
            forward()
            training()
        times = median(forward, device), median(training, device)
        mebibytes = peak(training, device)
        counts = tuple(launches(run, device) for run in (forward, training))
        hosts = tuple(host(run, device) for run in (forward, training))
    return Cell(*times, mebibytes, (counts[0], counts[1]), (hosts[0], hosts[1]))


def median(run: Callable[[], None], device: str) -> float:
    """Return the median milliseconds of a call, by the device's clock."""
    import torch

    seconds, found = time.monotonic(), []
    if device == "cpu":
        begun = time.perf_counter()
        run()
        return (time.perf_counter() - begun) * 1e3
    while len(found) < 3 or (time.monotonic() - seconds < BUDGET and len(found) < 50):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in "ab")
        first.record()
        run()
        last.record()
        last.synchronize()
        found.append(first.elapsed_time(last))
    return statistics.median(found)


def peak(run: Callable[[], None], device: str) -> float:
    """Return the mebibytes that a call takes beside what is there."""
    import torch

    if device == "cpu":
        return 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def launches(run: Callable[[], None], device: str) -> int:
    """Return the programs that a call runs on the device, by the profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    kind = ProfilerActivity.CPU if device == "cpu" else ProfilerActivity.CUDA
    with profile(activities=[kind]) as found:
        run()
        if device == "cuda":
            torch.cuda.synchronize()
    if device == "cpu":
        return len(found.events() or ())
    return sum(e.count for e in found.key_averages() if e.device_time_total > 0)


def host(run: Callable[[], None], device: str) -> float:
    """Return the milliseconds until a call returns, without waiting for the device."""
    import torch

    number = 1 if device == "cpu" else 5
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(number):
        run()
    found = (time.perf_counter() - begun) / number * 1e3
    if device == "cuda":
        torch.cuda.synchronize()
    return found


def write(measured: list[tuple[Row, dict[str, Cell]]], device: str) -> None:
    """Put the measured rows into the table that chooses, in place of older ones."""
    from modswap.nn.gpu.evidence import TABLE

    table = json.loads(TABLE.read_text(encoding="utf-8"))
    new = [found for row, cells in measured if (found := table_row(row, cells, device))]
    keys = ("layer", "sizes", "batch", "dtype", "card_class")
    made = {tuple(one[k] for k in keys) for one in new}
    old = [one for one in table["rows"] if tuple(one[k] for k in keys) not in made]
    rows = ",\n  ".join(json.dumps(one) for one in [*old, *new])
    TABLE.write_text(f'{{"schema": 1, "rows": [\n  {rows}\n]}}\n', encoding="utf-8")


def table_row(row: Row, cells: dict[str, Cell], device: str) -> dict[str, Any] | None:
    """Return a row as the table has it; None where a way was not measured or compared."""
    import torch
    import triton

    from modswap.nn.gpu.way import card_class

    compared = row.dtype != "tf32" and row.side <= CHECKED_SIDE
    if not compared or cells["windows"].error or cells["fused"].error:
        return None
    call = call_of(row, device)
    times = {
        way: {"forward": cells[way].forward, "training": cells[way].training}
        for way in ("windows", "fused")
    }
    return {
        "layer": call.layer, "sizes": call.sizes, "batch": call.batch, "dtype": call.dtype,
        "card_class": card_class(torch.cuda.get_device_capability()), **times,
        "card": torch.cuda.get_device_name(), "torch": torch.__version__,
        "triton": triton.__version__, "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip


def call_of(row: Row, device: str) -> Any:
    """Return the call of a row as the choice between the ways sees it."""
    from modswap.nn.gpu.mixed.layer import measured_call as mixed_call
    from modswap.nn.gpu.routed.layer import measured_call as routed_call
    from modswap.nn.kernels.local_attention import Geometry

    layer, (x, _) = ours(row, device), drawn(row, device)
    if row.layer != "ACmix":
        return routed_call(layer, x)
    geometry = Geometry(layer.head, layer.kernel_att, layer.stride, layer.dilation)
    return mixed_call(layer._terms(x), geometry)  # noqa: SLF001 - the terms that the layer computes


if __name__ == "__main__":
    sys.exit(main())

"""Compare predicted peak memory with that of real passes; prints ratios.

    python benchmarks/memory.py [--resident]

Predicted: on tensors without data, as `modswap check` does. Measured: the same count of storages on
real tensors. With --resident also the largest growth of the process, a process for each pass;
it includes workspaces of kernels and memory that the allocator keeps, so the inputs are large.
"""

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from modswap.core.asked.recipe import TensorInput
from modswap.core.decided.cost import size_text
from modswap.nn.acmix import ACmix
from modswap.nn.bilevel_routing_attention import BiLevelRoutingAttention
from modswap.ops.measure.cost import costs_of
from modswap.ops.run.inputs import Case, DummyCall
from tests.ops.measure.real_costs import real_costs

WAYS = ("inference", "training")
KIBIBYTE = 1024


def convolutions() -> nn.Module:
    """Return a plain stack: (N, 3, H, W) -> (N, 10, H, W)."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(64, 10, 1))


def encoder() -> nn.Module:
    """Return four blocks of a transformer: (N, L, 256) -> the same."""
    layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


def perceptron() -> nn.Module:
    """Return linear layers whose weights outweigh what is between them: (N, 1024) -> (N, 10)."""
    return nn.Sequential(
        nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 4096), nn.Linear(4096, 10)
    )


def routed() -> nn.Module:
    """Return bi-level routing attention in its published setting."""
    return BiLevelRoutingAttention(64, num_heads=2, n_win=7, topk=4, layout="NCHW")


def mixed() -> nn.Module:
    """Return ACmix in its published setting."""
    return ACmix(64, 64)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolutions": (convolutions, (8, 3, 192, 192)),
    "encoder": (encoder, (16, 512, 256)),
    "perceptron": (perceptron, (2048, 1024)),
    "routed": (routed, (4, 64, 112, 112)),
    "ACmix": (mixed, (4, 64, 56, 56)),
}


def peaks(name: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return the predicted peaks and the measured ones, by way."""
    make, shape = CASES[name]
    model = make().eval()
    case = Case(DummyCall((TensorInput(shape=shape),), {}))
    predicted, real = costs_of(model, case).model, real_costs(model, (torch.randn(shape),))
    return (
        {"inference": predicted.peak_inference, "training": predicted.peak_training},
        {"inference": real.peak_inference, "training": real.peak_training},
    )


def grown(name: str, way: str) -> int:
    """Return by how much this process grows for weights, input and one pass."""
    make, shape = CASES[name]
    run(*warm(name), way)
    before = resident()
    reset()
    run(make().eval(), torch.randn(shape), way)
    return highest() - before


def warm(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return the model with a tiny input, for what a first pass loads once and for all."""
    make, shape = CASES[name]
    small = (1, *shape[1:]) if len(shape) < 4 else (1, shape[1], 28, 28)
    return make().eval(), torch.randn(small)


def run(model: nn.Module, x: torch.Tensor, way: str) -> None:
    """Run a pass, with backward if it is a training step."""
    with torch.set_grad_enabled(way == "training"):
        y = model.train(way == "training")(x)
        if way == "training":
            y.backward(torch.ones_like(y))


def status(name: str) -> int:
    """Return a line of the process's status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * KIBIBYTE


def resident() -> int:
    """Return the resident memory now."""
    return status("VmRSS:")


def reset() -> None:
    """Start the highest mark anew, where the system lets a process do so."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def highest() -> int:
    """Return the highest resident memory since the mark was reset."""
    return min(status("VmHWM:"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE)


def apart(name: str, way: str) -> int:
    """Return what a process of its own grows by."""
    command = [sys.executable, __file__, "--one", name, way]
    # freed blocks go back to the system at once, or the heap's gaps would be measured
    given = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=given)  # noqa: S603 - ourselves
    return int(done.stdout.split()[-1])


def main() -> None:
    """Print a line for each model and way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--resident", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "WAY"))
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.one:
        print(grown(*options.one))  # noqa: T201 - a table for a terminal
        return
    print(f"{'model':14}{'pass':12}{'predicted':>12}{'measured':>12}{'ratio':>8}", end="")  # noqa: T201 - a table for a terminal
    print(f"{'resident':>12}{'ratio':>8}" if options.resident else "")  # noqa: T201 - a table for a terminal
    for name in CASES:
        predicted, real = peaks(name)
        for way in WAYS:
            told = [size_text(predicted[way]), size_text(real[way])]
            line = f"{name:14}{way:12}{told[0]:>12}{told[1]:>12}{predicted[way] / real[way]:>8.2f}"
            if options.resident:
                taken = apart(name, way)
                line += f"{size_text(taken):>12}{predicted[way] / taken:>8.2f}"
            print(line, flush=True)  # noqa: T201 - a table for a terminal


if __name__ == "__main__":
    main()

"""Time ACmix and measure its memory against the paper's order of operations; prints ratios.

    python benchmarks/acmix.py [--published FILE] [--rounds N] [--threads N]

FILE holds a class `ACmix` to compare with, such as the authors'; without it the plain reference of
the tests is used, which unfolds windows as that class does. The runs of a round follow each other,
so that other load of the machine slows all of them. `floor` is the time of the matrix products and
the convolution alone; modswap's time is also printed as a multiple of it.
"""

import argparse
import gc
import importlib.util
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

ROOT = Path(__file__).parents[1]
CASES = ((512, 28, 1), (512, 28, 8), (64, 56, 8), (256, 14, 8))
KIBIBYTE = 1024


def load_class(file: Path, name: str) -> type[nn.Module]:
    """Return a class of a file that belongs to no package."""
    spec = importlib.util.spec_from_file_location("compared", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[nn.Module] = getattr(module, name)
    return found


def make(file: Path, channels: int) -> nn.Module:
    """Return a module of the class that a file holds."""
    torch.manual_seed(0)
    return load_class(file, "ACmix")(channels, channels)


def forward(module: nn.Module, x: torch.Tensor) -> None:
    """Run without gradients."""
    with torch.no_grad():
        module(x)


def training(module: nn.Module, x: torch.Tensor) -> None:
    """Run forward and backward."""
    module.zero_grad()
    x.grad = None
    module(x).sum().backward()


def floor(channels: int, x: torch.Tensor) -> Callable[[bool], None]:
    """Return what runs a case's matrix products and convolution alone, and their gradients."""
    weight = torch.randn(3 * channels, channels)
    tokens = x.detach().flatten(2).transpose(1, 2).flatten(0, 1).contiguous()
    last = torch.channels_last
    mixed = torch.randn(len(x), 3 * channels, *x.shape[2:]).to(memory_format=last)
    kernel = torch.randn(channels, 12, 3, 3).to(memory_format=last)
    groups = channels // 4
    to_tokens = torch.randn(len(tokens), 3 * channels)
    to_output = torch.randn(x.shape).to(memory_format=last)

    def run(backward: bool) -> None:  # noqa: FBT001 - called by position here only
        torch.mm(tokens, weight.t())
        conv2d(mixed, kernel, padding=1, groups=groups)
        if backward:
            torch.mm(to_tokens, weight)
            torch.mm(to_tokens.t(), tokens)
            conv2d_input(mixed.shape, kernel, to_output, padding=1, groups=groups)
            conv2d_weight(mixed, kernel.shape, to_output, padding=1, groups=groups)

    return run


def medians(actions: Sequence[Callable[[], None]], rounds: int) -> list[float]:
    """Return the median seconds of each action; all of them run in each round."""
    seconds: list[list[float]] = [[] for _ in actions]
    for number in range(rounds + 1):
        for action, taken in zip(actions, seconds, strict=True):
            started = time.perf_counter()
            action()
            if number:
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def highest() -> int:
    """Return the most bytes that this process has held; on Linux."""
    # not `getrusage`: a new process has its parent's there
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * KIBIBYTE


def peak(file: Path, channels: int, size: int, images: int) -> int:
    """Return the bytes by which a forward and backward pass raises a process's peak."""
    torch.set_num_threads(1)
    module = make(file, channels)
    warm = torch.randn(1, channels, 8, 8, requires_grad=True)
    training(module, warm)
    x = torch.randn(images, channels, size, size, requires_grad=True)
    gc.collect()
    before = highest()
    training(module, x)
    return highest() - before


def peaks(files: list[Path], case: tuple[int, int, int]) -> list[int]:
    """Return the peak of each file's class, measured in a process of its own."""
    found = []
    for file in files:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(peak, (file, *case)))
    return found


def report(files: list[Path], case: tuple[int, int, int], rounds: int) -> str:
    """Return the lines of a case."""
    channels, size, images = case
    theirs, ours = (make(file, channels) for file in files)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(images, channels, size, size, requires_grad=True)
    alone = floor(channels, x)
    lines = [f"{channels} channels, {size}x{size}, batch {images}"]
    for title, run, backward in (("forward", forward, False), ("with backward", training, True)):
        actions = [partial(run, theirs, x), partial(run, ours, x), partial(alone, backward)]
        slow, fast, least = medians(actions, rounds)
        lines.append(
            f"  {title:14}{slow * 1e3:10.1f} ms {fast * 1e3:10.1f} ms"
            f"{slow / fast:8.1f} times {fast / least:8.2f} x floor"
        )
    more, less = peaks(files, case)
    lines.append(
        f"  {'extra memory':14}{more / 2**20:10.0f} MiB{less / 2**20:10.0f} MiB"
        f"{more / less:8.1f} times"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", type=Path, default=ROOT / "tests/nn/acmix_reference.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.stdout.write(f"torch {torch.__version__}, {options.threads} threads, float32\n")
    sys.stdout.write(f"{options.published.name} / ours\n")
    for case in CASES:
        files = [options.published.resolve(), ROOT / "modswap/nn/acmix.py"]
        sys.stdout.write(report(files, case, options.rounds))
        sys.stdout.flush()


if __name__ == "__main__":
    main()

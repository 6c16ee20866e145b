"""What a layer takes on a device: time, memory, launches, and the host's time."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

BUDGET = 0.4  # seconds for the timing of one pass


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


Passes = tuple[Callable[[], None], Callable[[], None]]


def passes(layer: Any, x: torch.Tensor, grad: torch.Tensor) -> Passes:
    """Return a forward pass without gradients, and a forward and backward pass."""
    leaf = x.clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def training() -> None:
        leaf.grad = None
        layer(leaf).backward(grad)

    return forward, training


def timed(layer: Any, x: torch.Tensor, grad: torch.Tensor) -> Cell:
    """Return the measurements of a layer."""
    forward, training = passes(layer, x, grad)
    if not x.is_cuda:  # an interpreter's times say nothing: each pass runs once more
        times = seconds_of(forward) * 1e3, seconds_of(training) * 1e3
        return Cell(*times, 0.0, (launches(forward), launches(training)), times)
    for _ in range(3):
        forward()
        training()
    times = median(forward), median(training)
    counts = launches(forward), launches(training)
    return Cell(*times, peak(training), counts, (host(forward), host(training)))


def median(run: Callable[[], None]) -> float:
    """Return the median milliseconds of a call, by the device's clock."""
    found: list[float] = []
    begun = time.monotonic()
    while len(found) < 3 or (time.monotonic() - begun < BUDGET and len(found) < 50):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in "ab")
        first.record()
        run()
        last.record()
        last.synchronize()
        found.append(first.elapsed_time(last))
    return statistics.median(found)


def seconds_of(run: Callable[[], None], number: int = 1) -> float:
    """Return the seconds until a call returns, without waiting for the device."""
    begun = time.perf_counter()
    for _ in range(number):
        run()
    return (time.perf_counter() - begun) / number


def peak(run: Callable[[], None]) -> float:
    """Return the mebibytes that a call takes beside what is there."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def launches(run: Callable[[], None]) -> int:
    """Return the programs that a call runs on the device, by the profiler; else the operators."""
    from torch.profiler import ProfilerActivity, profile

    on_device = torch.cuda.is_available()
    kind = ProfilerActivity.CUDA if on_device else ProfilerActivity.CPU
    with profile(activities=[kind]) as found:
        run()
        if on_device:
            torch.cuda.synchronize()
    if not on_device:
        return len(found.events() or ())
    return sum(e.count for e in found.key_averages() if e.device_time_total > 0)


def host(run: Callable[[], None]) -> float:
    """Return the milliseconds until a call returns, without waiting for the device."""
    torch.cuda.synchronize()
    found = seconds_of(run, 5) * 1e3
    torch.cuda.synchronize()
    return found

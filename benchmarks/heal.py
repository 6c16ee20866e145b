"""Time the steps of a healing beside hand-written loops, and measure what memory they take.

    python benchmarks/heal.py [--rounds 5] [step] [memory] [digits]

`step`: a step of the local fit against a loop of the same module, batch and optimizer written by
hand, in interleaved rounds; medians. `memory`: the growth of resident memory of a process that fits
a module whose inputs and targets are computed in step, kept in memory or in a temporary file, whose
pages the system drops when memory is short. `digits`: agreement with a classifier of scikit-learn's
digits whose 3x3 convolution on the main path is replaced by modules of random weights, after fits
without labels, on digits that nothing learned from; three seeds.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import nn

from modswap.core.decided.cost import size_text
from modswap.core.healed.agreement import Agreement
from modswap.nn import ACmix, BiLevelRoutingAttention
from modswap.ops.heal.fitting.end import EndFit, fit_end
from modswap.ops.heal.fitting.local import LocalFit, fit_local
from modswap.ops.heal.fitting.pace import RATE_FROM_RANDOM, Pace, Watch
from modswap.ops.heal.fitting.stored import Room
from modswap.ops.heal.measures.agreement import agreement
from modswap.ops.heal.measures.metric import metric_for
from modswap.ops.heal.samples import HeldSamples

STEPS, BATCH, RATE, COUNT = 20, 64, 4e-3, 400


class Case(NamedTuple):
    """A new module in the place of a 3x3 convolution, and maps (N, C, H, W)."""

    name: str
    channels: int
    side: int
    build: Callable[[], nn.Module]


def bra(channels: int) -> nn.Module:
    """Return attention over 4x4 windows."""
    return BiLevelRoutingAttention(channels, n_win=4, layout="NCHW")


CASES = (
    Case("BRA, 32 channels, 8x8", 32, 8, lambda: bra(32)),
    Case("ACmix, 32 channels, 8x8", 32, 8, lambda: ACmix(32, 32)),
    Case("BRA, 64 channels, 16x16", 64, 16, lambda: bra(64)),
    Case("1x1 convolution, 16 channels, 4x4", 16, 4, lambda: nn.Conv2d(16, 16, 1)),
)


def by_hand(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Fit a module as one would without modswap."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.15)
    variance = (y - y.mean((0, 2, 3), keepdim=True)).pow(2).mean()
    module.train()
    for _ in range(STEPS):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        loss = (module(x[chosen]) - y[chosen]).pow(2).mean() / variance
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        cycle.step()
    module.eval()


def by_modswap(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Fit a module by modswap, inputs and targets given from memory as above."""

    def pairs(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
        chosen = torch.tensor(indices)
        return [((x[chosen],), {}, y[chosen])]

    fit_local(LocalFit("site", module, module, pairs, range(len(x))), Pace(STEPS, RATE, BATCH))


def step(rounds: int) -> None:
    """Print milliseconds of processor time for a step, by hand and by modswap."""
    out(f"{'step of the local fit, ms':36} {'by hand':>8} {'modswap':>8} {'ratio':>6}")
    for case in CASES:
        torch.manual_seed(0)
        x = torch.randn(COUNT, case.channels, case.side, case.side)
        with torch.no_grad():
            y = nn.Conv2d(case.channels, case.channels, 3, padding=1)(x)
        module, times = case.build(), dict[Any, list[float]]()
        for number in range(rounds + 1):
            for loop in (by_hand, by_modswap):
                started = time.process_time()
                loop(module, x, y)
                if number:  # the first round warms up
                    taken = (time.process_time() - started) * 1000 / STEPS
                    times.setdefault(loop, []).append(taken)
        hand, own = (statistics.median(times[loop]) for loop in (by_hand, by_modswap))
        out(f"{case.name:36} {hand:8.2f} {own:8.2f} {own / hand:6.2f}")


MEMORY_COUNT, MEMORY_CHANNELS, MEMORY_SIDE = 1024, 32, 32  # 128 MiB of inputs, as much of targets


def memory(_: int) -> None:
    """Print the growth of a process's memory by where inputs and targets are."""
    whole = 2 * 4 * MEMORY_COUNT * MEMORY_CHANNELS * MEMORY_SIDE**2
    out(f"inputs and targets of all samples: {size_text(whole)}")
    out(f"{'kept':20} {'memory':>10} {'pages of files':>16}")
    for where in ("in step", "memory", "file"):
        call = [sys.executable, __file__, "--child", where]
        found = subprocess.run(call, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own
        out(found.rstrip())


def child(where: str) -> None:
    """Fit a module in this process and print the growth of its memory."""
    torch.set_num_threads(1)
    conv = nn.Conv2d(MEMORY_CHANNELS, MEMORY_CHANNELS, 3, padding=1)
    shape = (MEMORY_CHANNELS, MEMORY_SIDE, MEMORY_SIDE)

    def pairs(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in indices]
        x = torch.stack(rows)
        return [((x,), {}, conv(x))]

    module = nn.Conv2d(MEMORY_CHANNELS, MEMORY_CHANNELS, 1)
    warm = LocalFit("site", module, module, pairs, range(64))
    fit_local(warm, Pace(2, batch=32))
    before, most = resident(), [0, 0]

    def note(*_: Any) -> None:
        most[:] = map(max, most, resident())

    def noted(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
        note()
        return pairs(indices)

    with tempfile.TemporaryDirectory() as folder:
        rooms = {"memory": Room(1 << 30), "file": Room(0, Path(folder))}
        fit = LocalFit("site", module, module, noted, range(MEMORY_COUNT))
        fit_local(fit, Pace(96, batch=32), Watch(note), rooms.get(where, Room()))
    grown = [size_text(max(now - then, 0)) for now, then in zip(most, before, strict=True)]
    out(f"{where:20} {grown[0]:>10} {grown[1]:>16}")


def resident() -> tuple[int, int]:
    """Return the bytes of resident memory, and of resident pages of files, on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    named = {line.split()[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    kib = [int(named[name]) for name in ("RssAnon:", "RssFile:", "RssShmem:")]
    return kib[0] * 1024, (kib[1] + kib[2]) * 1024


LEARN, JUDGE, TEST = 400, 100, 599  # of 1,797 digits; the classifier learns from the first 1,198
ROWS = {"BRA": lambda: bra(32), "ACmix": lambda: ACmix(32, 32)}


def digits(_: int) -> None:
    """Print agreement on held-out digits by the steps of the fits."""
    out(f"{'agreement on digits, from random':36} {'swapped':>8} {'fit':>8} {'then end':>8}")
    found = load_digits()
    pictures = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    for seed in range(3):
        order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
        samples = HeldSamples((pictures[order],), labels=torch.tensor(found.target)[order])
        net = classifier(samples, seed)
        for name, build in ROWS.items():
            for steps in (400, 1000):
                torch.manual_seed(seed)
                shares = healed(net, build().eval(), samples, Pace(steps, RATE_FROM_RANDOM))
                columns = "".join(f" {share:8.3f}" for share in shares)
                out(f"{f'{name}, seed {seed}, {steps} steps':36}{columns}")


def stage(inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution with its norm."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def classifier(samples: HeldSamples, seed: int) -> nn.Sequential:
    """Return a network trained on the digits that do not test."""
    torch.manual_seed(seed)
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    net = nn.Sequential(
        stage(1, 32), stage(32, 32), nn.MaxPool2d(2), stage(32, 64), stage(64, 64), *tail
    )
    count, steps = samples.count - TEST, 360
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        batch = samples.batch(torch.randint(count, (BATCH,)).tolist())
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(*batch.args), batch.labels).backward()
        optimizer.step()
        cycle.step()
    return net.eval()


def healed(
    net: nn.Sequential, module: nn.Module, samples: HeldSamples, pace: Pace
) -> tuple[float, float, float]:
    """Return agreement with a module in the second stage: at first, after `fit`, after `end`."""
    model = copy.deepcopy(net)
    model[1][0] = module  # type: ignore[index] # a stage
    learn, judge = range(LEARN), range(LEARN, LEARN + JUDGE)
    with torch.no_grad():
        metric = metric_for(net(*samples.batch(judge).args))

    def agreed(indices: Sequence[int]) -> Agreement:
        return agreement(net, model, samples, indices, 256, metric)

    def pairs(indices: Sequence[int]) -> list[tuple[Any, Any, Any]]:
        x = net[0](*samples.batch(indices).args)
        return [((x,), {}, net[1][0](x))]  # type: ignore[index] # a stage

    test, shares = range(samples.count - TEST, samples.count), []
    shares.append(agreed(test).value)
    fit_local(
        LocalFit("1.0", module, module, pairs, learn, lambda: agreed(judge)),
        pace,
        room=Room(1 << 28),
    )
    shares.append(agreed(test).value)
    fit_end(EndFit(net, model, [module], samples, learn, lambda: agreed(judge)), Pace(200, 2e-3))
    return shares[0], shares[1], agreed(test).value


def out(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


PARTS = {"step": step, "memory": memory, "digits": digits}


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    asked = parser.parse_args()
    if asked.child:
        child(asked.child)
        return
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    torch.set_num_threads(threads)
    out(f"torch {torch.__version__}, threads: {threads}")
    for name in asked.parts or PARTS:
        PARTS[name](asked.rounds)


if __name__ == "__main__":
    main()

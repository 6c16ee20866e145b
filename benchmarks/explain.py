"""Time the passes of `modswap explain` against a plain forward, in CPU time of one thread.

    python benchmarks/explain.py [--rounds 15]

`recorded` follows lines and operators, `timed` lines only; operators are counted once. The aim: at
most 5 times a plain forward of 1 ms and more, below that at most 10 ms more for each 100 operators.
`benchmarks/results/explain.txt` has the output.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from modswap.nn import CATALOGUE
from modswap.nn.texts import LESSONS
from modswap.ops.explain.operators import Operators
from modswap.ops.explain.passes import Forward, Fresh, repeatable
from modswap.ops.explain.recorder import LineRecorder

MOST_TIMES = 5.0
MOST_PER_100 = 10.0  # ms


class Counter(TorchDispatchMode):
    """Count operators."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def forwards() -> Iterator[tuple[str, Forward]]:
    """Yield the catalogue's modules in both forms, layers of torch, and a network."""
    for name, lesson in LESSONS.items():
        module = CATALOGUE[name].module(**lesson.example).eval()
        x = torch.randn(lesson.shape(lesson.example))
        yield name, Forward(module, (x,))
        if lesson.form_of(module) is not None:
            yield f"{name}, paper", Forward(module, (x,), form=lesson.form_of(module))
    tokens = torch.randn(1, 196, 192)
    attention = nn.MultiheadAttention(192, 6, batch_first=True)
    yield "MultiheadAttention", Forward(attention.eval(), (tokens, tokens, tokens))
    layer = nn.TransformerEncoderLayer(192, 6, 768, batch_first=True)
    yield "TransformerEncoderLayer", Forward(layer.eval(), (tokens,))
    yield "LSTM", Forward(nn.LSTM(64, 128, 2).eval(), (torch.randn(50, 4, 64),))
    convs = [
        part
        for _ in range(12)
        for part in (nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
    ]
    yield "12 convolutions", Forward(nn.Sequential(*convs).eval(), (torch.randn(1, 64, 28, 28),))


def milliseconds(run: Callable[[], Any], fresh: Fresh, rounds: int) -> float:
    """Return the shortest time of a run on this thread, which other programs change least."""
    found = []
    for _ in range(rounds + 2):
        with fresh():
            start = time.thread_time()
            run()
            found.append(time.thread_time() - start)
    return 1000 * min(found[2:])


def measured(forward: Forward, rounds: int) -> tuple[float, float, float, int]:
    """Return the times of a plain, a recorded and a timed pass, and the number of operators."""

    def recorded() -> None:
        recorder = LineRecorder(forward.code, values=True)
        forward.recorded(recorder, Operators(recorder))

    def timed() -> None:
        forward.recorded(LineRecorder(forward.code, values=False))

    with repeatable(forward.module, 0) as fresh:
        counter = Counter()
        with fresh(), counter:
            forward.run()
        times = [milliseconds(run, fresh, rounds) for run in (forward.run, recorded, timed)]
    return times[0], times[1], times[2], counter.count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    out = sys.stdout
    out.write(
        f"torch {torch.__version__}, {platform.machine()}, one thread, shortest of {rounds} in ms\n"
    )
    heads = f"{'operators':>9} {'plain':>8} {'recorded':>9} {'timed':>8}"
    out.write(f"{'forward':<32} {heads}  within\n")
    for name, forward in forwards():
        plain, recorded, timed, operators = measured(forward, rounds)
        most = MOST_TIMES * plain if plain >= 1 else plain + MOST_PER_100 * max(1, operators / 100)
        within = "yes" if max(recorded, timed) <= most else "no"
        row = f"{operators:9d} {plain:8.2f} {recorded:9.2f} {timed:8.2f}"
        out.write(f"{name:<32} {row}  {within:>6}\n")


if __name__ == "__main__":
    main()

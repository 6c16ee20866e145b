"""Time a module beside another one, its gate closed and open, against a chain written by hand.

    python benchmarks/insertion.py [--rounds 30]

The site is a 3x3 convolution on the CPU in evaluation; ECA is put in after it. `training` is the
forward pass that gradients need, which reads no value of a gate.
`benchmarks/results/insertion.txt` has the output.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from modswap.core.seen.joint import Form, Joint
from modswap.nn import ECA
from modswap.nn.inserted_site import put_in
from modswap.nn.insertion import Insertion


def milliseconds(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each work; they take turns, so that load meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 3):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number >= 3:  # the first ones warm up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) * 1000 for name, taken in times.items()}


def works(form: Form, channels: int, side: int) -> dict[str, Callable[[], object]]:
    """Return the chain by hand, and the site with a closed, an open and a trained gate."""
    x = torch.randn(1, channels, side, side)
    eca, half = ECA(channels).eval(), torch.full((channels, 1, 1), 0.5)
    conv, site = (nn.Conv2d(channels, channels, 3, padding=1).eval() for _ in range(2))
    new = Insertion(eca, Joint("after", form, channels, 2)).eval()
    put_in(site, "eca", new)

    def by_hand() -> object:
        y = conv(x)
        return y.addcmul(half, eca(y)) if form == "add" else y.lerp(eca(y), half)

    def at(value: float, *, grad: bool = False) -> object:
        if new.gate is not None:
            new.gate.data.fill_(value)
        with torch.set_grad_enabled(grad):
            return site(x)

    return {
        "by hand": by_hand,
        "closed": partial(at, 0.0),
        "open": partial(at, 0.5),
        "training": partial(at, 0.5, grad=True),
    }


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    out = sys.stdout
    out.write(f"torch {torch.__version__}, {platform.machine()}, one thread, medians in ms\n")
    out.write(f"{'map':>12} {'form':>6} {'by hand':>8} {'closed':>8} {'open':>8} {'training':>8}\n")
    forms: tuple[Form, ...] = ("scale", "add")
    for channels, side in ((64, 80), (128, 40), (256, 20)):
        for form in forms:
            found = milliseconds(works(form, channels, side), rounds)
            row = " ".join(f"{ms:8.2f}" for ms in found.values())
            out.write(f"{f'{channels}x{side}x{side}':>12} {form:>6} {row}\n")


if __name__ == "__main__":
    main()

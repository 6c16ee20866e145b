"""Time that safe reading adds to `tree` and `check` on a large file, against another source tree.

`python benchmarks/safe_reading.py --against OTHER` runs this tree and the one in OTHER (an older
commit, `git worktree add --detach OTHER COMMIT`) in turn on the same file, and prints the smallest
and the middle of the times that each took on processors, which other programs disturb less than the
time on the clock.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from torch import nn

ROOT = Path(__file__).parents[1]
RECIPE = """\
version: 1
inputs: [{shape: [1, 64, 8, 8]}]
replace: [{match: "0.gate", with: SEBlock}]
"""


def net(gib: float, layers: int) -> nn.Module:
    """Return a model of so many GiB: a gate, and layers that the pass goes through."""
    side = int((gib * 2**30 / 4 / layers) ** 0.5)
    gated = nn.Sequential()
    gated.add_module("gate", nn.Conv2d(64, 64, 1))
    rows = [nn.Linear(side, side, bias=False) for _ in range(layers)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, side)]
    return nn.Sequential(gated, *head, *rows).eval()


def seconds(tree: Path, args: list[str], folder: Path) -> float:
    """Return the time on processors that the command of a source tree takes, in a process."""
    env = {**os.environ, "PYTHONPATH": str(tree), "NO_COLOR": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603 - its own command
        [sys.executable, "-m", "modswap", *args],
        cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, and print the result."""
    say = sys.stdout.write
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--layers", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    trees = {"before": given.against.resolve(), "now": ROOT}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        torch.save(net(given.gib, given.layers), folder / "net.pt")
        (folder / "swap.yaml").write_text(RECIPE)
        size = (folder / "net.pt").stat().st_size
        say(f"{size / 2**30:.2f} GiB, {given.layers} layers, torch {torch.__version__}\n")
        for args in (["tree", "net.pt"], ["check", "net.pt", "-c", "swap.yaml"]):
            found: dict[str, list[float]] = {key: [] for key in trees}
            for _ in range(given.rounds):  # in turn: what slows the machine slows both
                for key, tree in trees.items():
                    found[key].append(seconds(tree, args, folder))
            for key, times in found.items():
                line = f"{args[0]:5} {key:6} smallest {min(times):6.3f} s"
                say(f"{line}, middle {median(times):6.3f} s, largest {max(times):6.3f} s\n")
            added = min(found["now"]) - min(found["before"])
            say(f"{args[0]:5} added {added:+.3f} s, {100 * added / min(found['before']):+.1f} %\n")
        load = os.getloadavg()[0]
        say(f"load of the machine at the end: {load:.1f} on {os.cpu_count()} cores\n")


if __name__ == "__main__":
    main()

"""Time `modswap check` and `modswap replace` against a copy of the file; prints ratios.

    python benchmarks/replace.py [WIDTH]

The network is the demonstration's, with 32 channels in its first stage unless WIDTH says otherwise.
"""

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from modswap.core.asked.job import Job, Subject
from modswap.io.recipe.reader import read_recipe
from modswap.ops.demo.network import build_network
from modswap.ops.jobs.replace import check_file, replace_file

RUNS = 5
RECIPE = Path(__file__).parents[1] / "configs" / "unetpp_bra.yaml"


def median_seconds(action: Callable[[], object]) -> float:
    """Return the median time of several runs, after one that does not count."""
    action()
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Print the table."""
    width = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    with tempfile.TemporaryDirectory() as name:
        file, out = Path(name, "net.pt"), Path(name, "out.pt")
        torch.save(build_network(base_width=width), file)
        subject, recipe = Subject(file), read_recipe(RECIPE)
        rows = {
            "copy": lambda: shutil.copyfile(file, out),
            "check": lambda: check_file(Job(subject, recipe)),
            "replace": lambda: replace_file(Job(subject, recipe, out, force=True)),
        }
        size = file.stat().st_size
        sys.stdout.write(f"{size / 2**20:.0f} MiB, {torch.get_num_threads()} threads\n")
        copy = 0.0
        for title, action in rows.items():
            seconds = median_seconds(action)
            copy = copy or seconds
            sys.stdout.write(f"{title:8} {seconds:8.3f} s  {seconds / copy:8.1f} x copy\n")


if __name__ == "__main__":
    main()

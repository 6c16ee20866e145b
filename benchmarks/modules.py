"""Time commands on models of many modules, and the default examinations on a large checkpoint.

    python benchmarks/modules.py [--rounds 3] [--gib 4] [--modules 1000] [--folder FOLDER]

`tree`, and `replace --no-forward --dry-run` (tree, plan and the fate of every tensor), run on
1,000, 10,000 and 100,000 modules, each as a whole module and as a state dict. `check` with its
default examinations runs on convolutional blocks of `--modules` modules and `--gib` GiB. Every
command is a process of its own; peaks are resident memory as the system counts it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MODSWAP = (sys.executable, "-m", "modswap")
COUNTS = (1_000, 10_000, 100_000)
PLAN = """\
version: 1
replace: [{match: "7.1", with: CBAM, args: {gate_channels: 4}}]
"""
CHECK = """\
version: 1
inputs: [{shape: [1, 3, 224, 224]}]
allow: ["nets.*"]
replace:
  - match: "10.space_attention"
    with: BiLevelRoutingAttention
    args: {num_heads: 8, n_win: 7, topk: 4, auto_pad: true}
"""


class Ran(NamedTuple):
    """The time and memory of a process."""

    seconds: float
    peak: float  # MiB


def run(command: Sequence[str], folder: Path) -> Ran:
    """Run a command in a process of its own; its output is dropped."""
    started = time.perf_counter()
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder, env=here)  # noqa: S603 - our own
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return Ran(time.perf_counter() - started, usage.ru_maxrss / 1024)


def commands(folder: Path, modules: int, gib: float) -> dict[str, Sequence[str]]:
    """Make the files and return the commands, by what the table calls them."""
    (folder / "plan.yaml").write_text(PLAN, encoding="utf-8")
    (folder / "check.yaml").write_text(CHECK, encoding="utf-8")
    plan = ("-c", "plan.yaml", "-o", "out.pt", "--no-forward", "--dry-run")
    found: dict[str, Sequence[str]] = {"start-up": (*MODSWAP, "--help")}
    made = [sys.executable, str(Path(__file__).with_name("nets.py")), str(folder)]
    run([*made, str(modules), str(gib)], folder)
    for count in COUNTS:
        for form in ("module", "weights"):
            found[f"tree {count:,} {form}"] = (*MODSWAP, "tree", f"{form}{count}.pt")
        found[f"plan {count:,} module"] = (*MODSWAP, "replace", f"module{count}.pt", *plan)
    found[f"check {modules:,} modules, {gib:.1f} GiB"] = (
        *MODSWAP, "check", "large.pt", "-c", "check.yaml",
    )  # fmt: skip
    return found


def main() -> None:
    """Run every command in turns and print medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--modules", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        table: dict[str, tuple[Sequence[str], list[Ran]]] = {
            name: (one, []) for name, one in commands(Path(place), given.modules, given.gib).items()
        }
        for _ in range(given.rounds):
            for command, taken in table.values():
                taken.append(run(command, Path(place)))
    lines = [f"{'':40}{'seconds':>10}{'peak, MiB':>12}"]
    for name, (_, taken) in table.items():
        seconds = statistics.median(one.seconds for one in taken)
        lines.append(f"{name:40}{seconds:10.2f}{max(one.peak for one in taken):12.0f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

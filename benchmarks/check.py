"""The time of `modswap check` on the network of `modswap demo`, beside that of `import torch`.

Each command runs in a process of its own, in turn with the others, and the least of all rounds
counts: processor time, its share of the machine's own `import torch` in the same round, and wall
time. `--against` another checkout of modswap times both, round by round.
`benchmarks/results/check.txt` has the output.

    python benchmarks/check.py [--rounds 5] [--against FOLDER]
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from modswap.ops.demo.network import build_network

HERE = Path(__file__).resolve().parents[1]
RECIPE = HERE / "configs" / "unetpp_bra.yaml"
TYPO = "version: 1\nreplace:\n  - {mtch: conv, with: ECA}\n"
WRONG = """\
version: 1
inputs: [{shape: [1, 3, 224, 224]}]
replace:
  - {match: '**.gates', with: ECA}
"""
MODSWAP = [sys.executable, "-m", "modswap"]
TORCH = "import torch"


def commands(folder: Path) -> Mapping[str, Sequence[str]]:
    """Return the command lines by what they are in the table; their files are made."""
    file, typo, wrong = folder / "unetpp.pt", folder / "typo.yaml", folder / "wrong.yaml"
    torch.save(build_network().eval(), file)
    typo.write_text(TYPO, encoding="utf-8")
    wrong.write_text(WRONG, encoding="utf-8")
    check = [*MODSWAP, "check"]
    return {
        TORCH: [sys.executable, "-c", "import torch"],
        "check": [*check, str(file), "-c", str(RECIPE)],
        "check --fast": [*check, str(file), "-c", str(RECIPE), "--fast"],
        "check, no module matches": [*check, str(file), "-c", str(wrong)],
        "check, no such file": [*check, str(folder / "unet.pt"), "-c", str(RECIPE)],
        "check, no such recipe": [*check, str(file), "-c", str(folder / "unet.yaml")],
        "check, a key misspelt": [*check, str(file), "-c", str(typo)],
        "check, no such option": [*check, str(file), "--recipe", str(RECIPE)],
        "--help": [*MODSWAP, "--help"],
    }


def run(command: Sequence[str], source: Path) -> tuple[float, float]:
    """Return the processor time and the wall time of a command, in seconds."""
    env = {**os.environ, "PYTHONPATH": str(source), "NO_COLOR": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, env=env, capture_output=True, check=False)  # noqa: S603 - ours
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, wall


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, default=None, help="another checkout of modswap")
    asked = parser.parse_args()
    sources = {"now": HERE} | ({"before": asked.against.resolve()} if asked.against else {})
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        lines = commands(Path(folder))
        for _ in range(asked.rounds):
            for name, source in sources.items():
                base, _ = run(lines[TORCH], source)
                for what, line in lines.items():
                    spent, wall = run(line, source)
                    found.setdefault((name, what), []).append((spent, spent / base, wall))
    sys.stdout.write(
        f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, the least of "
        f"{asked.rounds} rounds, load {os.getloadavg()[1]:.1f}\n"
        f"{'':26} {'':7} {'CPU s':>7} {'imports of torch':>17} {'wall s':>7}\n"
    )
    for what in lines:
        for name in reversed(sources):
            least = [min(column) for column in zip(*found[name, what], strict=True)]
            sys.stdout.write(
                f"{what:26} {name:7} {least[0]:7.2f} {least[1]:17.2f} {least[2]:7.2f}\n"
            )


if __name__ == "__main__":
    main()

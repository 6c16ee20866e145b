"""Real commands under torchrun, for the tests of a healing by several processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

import modswap as package
from modswap.cli.app import run
from tests.ops.heal.nets import classifier, pictures

ALLOW = "tests.ops.heal.nets.*"
KEYS = "mix.qkv.qkv.bias"  # of queries, keys and values
SETS = {"BiLevelRoutingAttention": ["--set", "n_win=2", "--set", "topk=2"], "ACmix": []}


def files(folder: Path) -> Path:
    """Write a model, both swaps of it, and data."""
    torch.save(classifier(), folder / "net.pt")
    np.save(folder / "data.npy", pictures().numpy())
    for name, sets in SETS.items():
        rule = ["--match", "mix", "--with", name, *sets, "--input", "2,3,8,8", "--allow", ALLOW]
        out = str(folder / f"{name}.pt")
        assert run(["replace", str(folder / "net.pt"), *rule, "-q", "-o", out]) == 0
    return folder


def command(count: int, folder: Path, name: str, out: Path, *more: str) -> list[str]:
    """Return the command that heals a swap by several processes."""
    given = [str(folder / f"{name}.pt"), "--against", str(folder / "net.pt")]
    given += ["--data", str(folder / "data.npy"), "--input", "2,3,8,8", "--allow", ALLOW]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    started = [sys.executable, *(launcher if count > 1 else []), "-m", "modswap"]
    return [*started, "heal", *given, "-o", str(out), *more]


def environment() -> dict[str, str]:
    """Return one in which all processes compute alike."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}


def heal(
    count: int, folder: Path, name: str, out: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    """Heal a swap by several processes; the report is JSON."""
    line = command(count, folder, name, out, *more, "--format", "json")
    return subprocess.run(
        line, capture_output=True, text=True, timeout=240, env=environment(), check=False
    )


def killed(count: int, folder: Path, name: str, out: Path, *more: str) -> str:
    """Heal a swap, and kill the last process when there is a file to go on from; return its errors.

    The process that works is killed, as the system does where memory runs out.
    """
    line = command(count, folder, name, out, *more)
    with (folder / "said").open("w+") as said:
        launcher = subprocess.Popen(line, stderr=said, stdout=said, env=environment())
        resume = out.with_name(f"{out.name}.resume")
        for _ in range(1200):
            if resume.exists():
                break
            time.sleep(0.1)
        os.kill(_children(_children(launcher.pid)[-1])[0], signal.SIGKILL)
        assert launcher.wait(timeout=60) == 1
        said.seek(0)
        return said.read()


def _children(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            found += [int(place.parent.name)] if int(fields[1]) == pid else []
    return sorted(found)


def difference(one: Path, other: Path) -> float:
    """Return the largest difference of two files' values, without what changes no output.

    A bias of keys has no gradient but rounding, which AdamW makes as large as any.
    """
    states = [package.load(file, allow=[ALLOW]).state_dict() for file in (one, other)]
    for state in states:
        if KEYS in state:
            state[KEYS].view(3, -1)[1].zero_()
    pairs = ((states[0][key].double(), states[1][key].double()) for key in states[0])
    return max(float((before - after).abs().max()) for before, after in pairs)

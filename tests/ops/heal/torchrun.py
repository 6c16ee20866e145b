"""Real commands under torchrun, for the tests of a healing by several processes."""

import os
import subprocess
import sys
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
    """Heal a swap by several processes."""
    line = command(count, folder, name, out, *more)
    return subprocess.run(
        line, capture_output=True, text=True, timeout=240, env=environment(), check=False
    )


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

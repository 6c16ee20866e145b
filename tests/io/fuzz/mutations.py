"""Sound files changed at random, and the promise that every command keeps on them.

`python -m tests.io.fuzz.mutations --minutes 5` keeps those that break it.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.io.corpus.case import ALL, RECIPE, SWAP, Case
from tests.io.corpus.raw import torch_zip
from tests.io.fuzz.changes import KINDS
from tests.io.worker import Ran, Worker

SECONDS = 10
MEMORY = 256 << 20  # bytes
CODES = {0, 1, 2, 3, 4}
SOUND = "sound.pt"


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """A changed file.

    Args:
        file: What it is called; the recipe's name if that was changed.
        content: Its bytes.
        command: What is tried on it.
    """

    file: str
    content: bytes
    command: str


def fuzzed(kind: str, seed: str) -> Fuzzed:
    """Return a changed file; the same seed gives the same one."""
    dice = random.Random(f"{kind}:{seed}")
    file, content = KINDS[kind](dice)
    commands = ("check", "replace") if kind == "recipe" else (*ALL, "diff")
    return Fuzzed(file, content, dice.choice(commands))


# -- the promise


def broken(one: Fuzzed, worker: Worker) -> str:
    """Return what a command does on a changed file that it must not do, or nothing."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("net.pt", SOUND):
            (folder / name).write_bytes(torch_zip())
        (folder / RECIPE).write_text(SWAP)
        (folder / one.file).write_bytes(one.content)
        expected = {file.name for file in folder.iterdir()}
        file = "net.pt" if one.file == RECIPE else one.file
        args = Case("fuzzed", one.content, "", file=file).args(one.command)
        args += [SOUND] * (one.command == "diff")
        ran = worker.run(args, folder, seconds=SECONDS)
        if one.command == "replace" and ran.code == 0:
            expected.add("out.pt")
        left = {file.name for file in folder.iterdir()} ^ expected
    return verdict(ran, sorted(left))


def verdict(ran: Ran, left: Sequence[str]) -> str:
    if ran.code not in CODES or "Traceback" in ran.err:
        return f"it ended with {ran.code}: {ran.err[-3000:]}"
    if ran.code and not (ran.err or ran.out):
        return f"it ended with {ran.code} and said nothing"
    if ran.grown > MEMORY:
        return f"it took {ran.grown >> 20} MiB"
    return f"it left or took away {', '.join(left)}" if left else ""


def search(minutes: float, seed: str, keep: Path, worker: Worker) -> int:
    """Try changed files until the time is over; return how many break the promise.

    Args:
        minutes: How long.
        seed: Gives the same files again.
        keep: A folder for those that break it.
        worker: Runs the commands.
    """
    say = sys.stdout.write
    say(f"seed {seed}\n")
    end, tried, found = time.monotonic() + 60 * minutes, 0, 0
    while time.monotonic() < end:
        kind, number = list(KINDS)[tried % len(KINDS)], f"{seed}:{tried}"
        one = fuzzed(kind, number)
        tried += 1
        wrong = broken(one, worker)
        if wrong:
            found += 1
            keep.mkdir(exist_ok=True)
            kept = keep / f"{kind}-{tried}-{one.command}-{one.file}"
            kept.write_bytes(one.content)
            say(f"{kept}, which is fuzzed({kind!r}, {number!r}): {wrong}\n")
    say(f"{tried} tried, {found} broke the promise\n")
    return found


def main(args: Sequence[str]) -> int:
    """Search for as long as the command line says."""
    parser = argparse.ArgumentParser(prog="mutations")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    given = parser.parse_args(args)
    worker = Worker()
    try:
        return 1 if search(given.minutes, given.seed, given.keep, worker) else 0
    finally:
        worker.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

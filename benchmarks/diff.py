"""Time and memory of `modswap diff` on two large files: equal, and with a tenth changed.

Run: python benchmarks/diff.py [--gib 4] [--folder DIR]

Each number is the best of three runs in a process of its own, without its imports, and with the
files in the page cache where memory suffices. `read both` reads both files once, from front to
back, and does nothing else. The plain loop reads the tensors that differ by safetensors, and
computes the same statistics with torch, each over the whole tensor.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

TENSORS = 256
RUNS = 3

READ = """
buffer = bytearray(8 << 20)
for name in (a, b):
    with open(name, 'rb', buffering=0) as stream:
        while stream.readinto(buffer):
            pass
"""
IMPORTS = "from pathlib import Path; from modswap.ops.compare.files import diff_files"
WITH_TORCH = f"{IMPORTS}; import modswap.ops.compare.values"
DIFF = """
found = diff_files(Path(a), Path(b))
count = len(found.changed)
"""
LOOP = """
import torch
from safetensors import safe_open
with safe_open(a, 'pt') as old, safe_open(b, 'pt') as new:
    for name in changed:
        x, y = old.get_tensor(name).flatten(), new.get_tensor(name).flatten()
        p, q = x.double(), y.double()
        d = p - q
        sizes = torch.dot(p, p).item() ** 0.5, torch.dot(q, q).item() ** 0.5
        (
            d.abs().max().item(),
            torch.dot(d, d).item() ** 0.5 / sizes[0],
            torch.dot(p, q).item() / sizes[0] / sizes[1],
            (x.view(torch.int32) != y.view(torch.int32)).sum().item() / x.numel(),
            p.isnan().sum().item(), q.isnan().sum().item(),
            p.isinf().sum().item(), q.isinf().sum().item(),
        )
"""
MEASURED = """
import json, sys, time
a, b, changed = json.loads(sys.argv[1])
{imports}

def peak():  # of this process alone: ru_maxrss begins with the parent's
    with open('/proc/self/status') as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1024

started, before = time.perf_counter(), time.process_time()
{code}
print(json.dumps([time.perf_counter() - started, time.process_time() - before, peak()]))
"""


class Taken(NamedTuple):
    """What one process took."""

    seconds: float
    cpu: float  # seconds of all processors, which other programs hardly change
    peak: float  # MiB


def main() -> None:
    """Make the files, time everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4.0, help="size of each file")
    parser.add_argument("--folder", type=Path, help="where the files are made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        need, free = 2.2 * given.gib, shutil.disk_usage(folder).free / 2**30
        if free < need:
            sys.exit(f"{folder} has {free:.1f} GiB free, {need:.1f} are needed: name a --folder")
        a, b = folder / "a.safetensors", folder / "b.safetensors"
        count = int(given.gib * 2**30 / TENSORS / 4)
        write(a, count)
        shutil.copyfile(a, b)
        torch_alone = best("", (a, b), imports="import torch").peak
        read = best(READ, (a, b))
        equal = best(DIFF, (a, b), imports=IMPORTS)
        changed = change(b, count)
        tenth = best(DIFF, (a, b), imports=WITH_TORCH)
        loop = best(LOOP, (a, b), changed, imports="import torch, safetensors")
    rest = 1 - len(changed) / TENSORS
    extra = Taken(tenth.seconds - equal.seconds * rest, tenth.cpu - equal.cpu * rest, 0)
    say(f"two files of {given.gib:g} GiB, {TENSORS} tensors of float32 each; load {load()}")
    show("read both once", read)
    show("diff, equal", equal, read, torch_alone)
    show(f"diff, {len(changed)} tensors changed", tenth, None, torch_alone)
    show("plain loop over those", loop, None, torch_alone)
    show("diff, its part for those", extra, loop)
    say(f"memory is the most resident, less {torch_alone:.0f} MiB of importing torch")


def load() -> str:
    """Return how many processes the machine ran at once in the last minute."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def show(what: str, taken: Taken, base: Taken | None = None, alone: float = 0.0) -> None:
    """Print a line, with the ratios to another one."""
    ratios = ""
    if base is not None:
        ratios = f"{taken.seconds / base.seconds:5.2f} x   cpu {taken.cpu / base.cpu:5.2f} x"
    memory = f"{taken.peak - alone:+6.0f} MiB" if alone else ""
    say(f"{what:28} {taken.seconds:7.2f} s   cpu {taken.cpu:6.2f} s  {ratios:24} {memory}")


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text.rstrip()}\n")


def best(
    code: str, files: tuple[Path, Path], changed: tuple[str, ...] = (), imports: str = ""
) -> Taken:
    """Return the least seconds of three processes, and the most memory."""
    text = MEASURED.format(code=code, imports=imports)
    given = json.dumps([*map(str, files), list(changed)])
    command = [sys.executable, "-c", text, given]
    found = [
        Taken(*json.loads(subprocess.check_output(command)))  # noqa: S603 - the code is above
        for _ in range(RUNS)
    ]
    seconds, cpu, peak = zip(*found, strict=True)
    return Taken(min(seconds), min(cpu), max(peak))


def write(file: Path, count: int) -> None:
    """Write a safetensors file of random numbers, tensor by tensor."""
    import torch

    header = {
        f"layers.{number}.weight": {
            "dtype": "F32",
            "shape": [count],
            "data_offsets": [4 * count * number, 4 * count * (number + 1)],
        }
        for number in range(TENSORS)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _ in range(TENSORS):
            stream.write(memoryview(torch.randn(count).numpy()).cast("B"))


def change(file: Path, count: int) -> tuple[str, ...]:
    """Add noise to every tenth tensor of a file, in place; return their names."""
    import torch

    with file.open("r+b") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
        numbers = range(0, TENSORS, 10)
        for number in numbers:
            stream.seek(start + 4 * count * number)
            old = torch.frombuffer(bytearray(stream.read(4 * count)), dtype=torch.float32)
            stream.seek(start + 4 * count * number)
            noise = 1e-3 * torch.randn(count)
            stream.write(memoryview((old + noise).numpy()).cast("B"))
    return tuple(f"layers.{number}.weight" for number in numbers)


if __name__ == "__main__":
    main()

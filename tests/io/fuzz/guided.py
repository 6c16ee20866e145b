"""Look for inputs that a reader neither reads nor refuses, guided by the code that each reaches.

`python -m tests.io.fuzz.guided --minutes 10` divides the time among all targets; it needs atheris:
`pip install -e '.[fuzz]'`. An input that raises something else, runs something, takes over 10 s or
over 1.5 GiB is kept in a folder, and the exit code is 1. With `--learn`, the inputs that reached
new code are put into the archive which the tests replay.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

SECONDS, MIB = 10, 1536  # that an input may take; torch itself has 250 MiB
MAX_INPUT_BYTES = 1 << 16
# other code whose branches say something about an input
_INSTRUMENTED = ("modswap", "pickle", "zipfile", "yaml", "json")
_ROOT = Path(__file__).parents[3]
_SPEED = re.compile(rb"average_exec_per_sec: +(\d+)")
_TRIED = re.compile(rb"number_of_executed_units: +(\d+)")
_COVERED = re.compile(rb"cov: (\d+)")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a target's run ended."""

    target: str
    tried: int
    covered: int  # branches
    said: bytes  # the end of its output, if it found something; else nothing

    def line(self) -> str:
        """Return it as a line of the report."""
        found = "" if not self.said else ", FOUND A FAULT"
        return f"{self.target:12} {self.tried:9,} inputs, {self.covered:6,} branches{found}"


# -- in a process for each target


def fuzz(name: str, arguments: Sequence[str]) -> None:
    """Fuzz a target in this process until its time is over, or it finds something.

    Args:
        name: Of the target.
        arguments: Of libFuzzer.
    """
    import atheris  # the extra `fuzz`

    with atheris.instrument_imports(include=[*_INSTRUMENTED], enable_loader_override=False):
        for module in [key for key in sys.modules if key.partition(".")[0] in _INSTRUMENTED]:
            del sys.modules[module]  # imported by atheris, without instruments
        from tests.io.fuzz.inputs import runner
        from tests.io.fuzz.targets import TARGETS
    target = TARGETS[name]

    def change(data: bytes, most: int, seed: int) -> bytes:
        dice = Random(seed)
        if dice.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return target.change(data, dice)[:most]

    begins = "-artifact_prefix="
    prefix = next((a.removeprefix(begins) for a in arguments if a.startswith(begins)), "fault-")

    def tried(data: bytes) -> None:
        try:
            run(data)
        except BaseException:  # atheris prints it, and ends without keeping the input
            Path(f"{prefix}{sha256(data).hexdigest()[:12]}").write_bytes(data)
            raise

    with runner(target) as run:
        # merged inputs are given by processes that libFuzzer starts with these words
        again = f"{sys.executable} -m tests.io.fuzz.guided --target {name} --"
        atheris.Setup([again, *arguments], tried, custom_mutator=change)
        atheris.Fuzz()


def _started(name: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "tests.io.fuzz.guided", "--target", name, "--", *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path[1:]])}
    return subprocess.run(
        command, cwd=_ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def _limits() -> tuple[str, ...]:
    return (
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MIB}",
        f"-max_len={MAX_INPUT_BYTES}",
        "-print_final_stats=1",
    )


# -- in the process that starts them


def search(name: str, seconds: int, inputs: Iterable[bytes], new: Path, keep: Path) -> Ended:
    """Fuzz a target in a process of its own; return how that ended.

    Args:
        name: Of the target.
        seconds: How long.
        inputs: To begin with.
        new: A folder for inputs that reach new code.
        keep: A folder for inputs that a reader neither reads nor refuses.
    """
    new.mkdir(parents=True)
    keep.mkdir(exist_ok=True)
    for number, data in enumerate(inputs):
        (new / f"seed{number}").write_bytes(data)
    found = f"-artifact_prefix={keep.resolve()}/{name}-"
    done = _started(name, str(new), found, f"-max_total_time={seconds}", *_limits())
    tried, covered = (
        int(matches[-1]) if (matches := pattern.findall(done.stdout)) else 0
        for pattern in (_TRIED, _COVERED)
    )
    said = done.stdout[-6000:] if done.returncode or not tried else b""
    return Ended(name, tried, covered, said)


def merged(name: str, folder: Path, out: Path) -> list[bytes]:
    """Return as few of the inputs in a folder as reach the same code."""
    out.mkdir()
    _started(name, "-merge=1", str(out), str(folder), *_limits())
    return [file.read_bytes() for file in out.iterdir()]


def search_all(names: Sequence[str], given: argparse.Namespace) -> int:
    """Fuzz targets, some at once; return how many found something."""
    from tests.io.fuzz.inputs import keep, kept
    from tests.io.fuzz.targets import TARGETS

    known = kept()
    seconds = max(1, int(given.minutes * 60 * given.jobs / len(names)))
    with TemporaryDirectory() as scratch, ThreadPoolExecutor(given.jobs) as pool:

        def one(name: str) -> Ended:
            inputs = [*TARGETS[name].seeds(), *known.get(name, ())]
            ended = search(name, seconds, inputs, Path(scratch, name), given.keep)
            sys.stdout.write(f"{ended.line()}\n")
            sys.stdout.write(ended.said.decode("utf-8", "replace"))
            if given.learn and not ended.said:
                known[name] = merged(name, Path(scratch, name), Path(scratch, f"{name}-merged"))
            return ended

        faults = [ended for ended in pool.map(one, names) if ended.said]
    if given.learn:
        keep(known)
    sys.stdout.write(f"{len(faults)} of {len(names)} targets found a fault\n")
    return len(faults)


def main(args: Sequence[str]) -> int:
    """Search for as long as the command line says."""
    if "--" in args:
        fuzz(args[args.index("--target") + 1], args[args.index("--") + 1 :])
        return 0
    parser = argparse.ArgumentParser(prog="guided")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--learn", action="store_true")
    given = parser.parse_args(args)
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install -e '.[fuzz]'")
    from tests.io.fuzz.targets import TARGETS

    return 1 if search_all(given.target or list(TARGETS), given) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The inputs that the fuzzer found worth keeping: each reached code that no other one does."""

import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.io.fuzz.targets import Target
from tests.io.fuzz.watch import nothing_runs

ARCHIVE = Path(__file__).parents[2] / "fixtures" / "fuzz" / "inputs.tar.xz"
MAX_ARCHIVE_BYTES = 300_000


def kept(archive: Path = ARCHIVE) -> dict[str, list[bytes]]:
    """Return the inputs of each target."""
    found: dict[str, list[bytes]] = {}
    if archive.exists():
        with tarfile.open(archive) as held:
            for member in held.getmembers():
                stream = held.extractfile(member)
                assert stream is not None
                found.setdefault(member.name.partition("/")[0], []).append(stream.read())
    return found


def keep(inputs: Mapping[str, Sequence[bytes]], archive: Path = ARCHIVE) -> None:
    """Write the inputs of each target; the same inputs give the same bytes."""
    with tarfile.open(archive, "w:xz", preset=9) as held:
        for target, contents in sorted(inputs.items()):
            for content in sorted(set(contents), key=lambda one: (len(one), one)):
                member = tarfile.TarInfo(f"{target}/{sha256(content).hexdigest()[:12]}")
                member.size = len(content)
                held.addfile(member, io.BytesIO(content))


@contextmanager
def runner(target: Target) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that gives an input to a target, each in a folder of its own.

    It raises what the target raises, and a `RanError` if something of the input was run.
    """
    memory = "/dev/shm"  # thousands of files a second are no work for a disk
    with TemporaryDirectory(dir=memory if Path(memory).is_dir() else None) as name:
        before, tempfile.tempdir = tempfile.tempdir, name

        def run(data: bytes) -> None:
            with TemporaryDirectory() as own, nothing_runs(Path(name)):
                target.run(data, Path(own))

        try:
            for seed in target.seeds():  # late imports happen now
                with TemporaryDirectory() as own:
                    target.run(seed, Path(own))
            yield run
        finally:
            tempfile.tempdir = before

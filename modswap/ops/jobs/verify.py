"""Compare a checkpoint with the checksums in it and with a SHA-256; torch is not needed."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock

from modswap.core.errors import CheckpointError, ModswapError, together
from modswap.core.kept.comparison import Comparison, Unequal
from modswap.core.kept.outcome import Amount
from modswap.core.progress import Progress, silent
from modswap.io.formats.choice import recognised
from modswap.io.raw.checksums import Checksums, Difference, differences
from modswap.io.raw.held import holding
from modswap.io.raw.memory import enough_memory
from modswap.io.recognise.look import look_at, unreadable
from modswap.io.sha256_list import expected_digests, sha256_of

NOTHING = "no checksum to compare with"
_STEP_BYTES = 1 << 30  # compared between two lines of progress


def verify_file(file: Path, digest: str | None = None, progress: Progress = silent) -> Comparison:
    """Compare a checkpoint's bytes with its checksums, and its files with given SHA-256.

    Args:
        file: The file or folder.
        digest: The name of a list of SHA-256, or the SHA-256 itself.
        progress: Takes a line for each step.

    Returns:
        The comparison. An error that stops it is its `error`; so is that nothing is known.
    """
    started = time.monotonic()
    found = Comparison(str(file))
    try:
        with holding(file) as held:
            if digest is not None:
                found = _with_digests(found, expected_digests(digest, file), progress)
            found = _with_checksums(found, file, progress)
            held.refuse_change()
    except ModswapError as error:
        found = replace(found, error=error)
    except OSError as error:
        found = replace(found, error=unreadable(file, error))
    return replace(found, seconds=time.monotonic() - started)


def require_digest(file: Path, digest: str, progress: Progress = silent) -> None:
    """Refuse a file or folder with another SHA-256 than the given one.

    Raises:
        CheckpointError: If it differs, or a list names no such file.
    """
    found = _with_digests(Comparison(str(file)), expected_digests(digest, file), progress)
    errors = [
        CheckpointError(
            f"its SHA-256 is {one.found}, expected {one.expected}", one.file, "download it again"
        )
        for one in found.unequal
    ]
    if errors:
        raise together(errors)


def _with_digests(
    found: Comparison, expected: Mapping[Path, str], progress: Progress
) -> Comparison:
    """Return a comparison that includes the SHA-256 of files."""
    sizes = [file.stat().st_size if file.is_file() else 0 for file in expected]
    advance = _counter(sum(sizes), progress)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(lambda file: sha256_of(file, advance), expected))
    unequal = tuple(
        Unequal(str(file), "file", file.name, "SHA-256", wanted, digest)
        for (file, wanted), digest in zip(expected.items(), digests, strict=True)
        if wanted != digest
    )
    return replace(found, files=Amount(len(sizes), sum(sizes)), unequal=unequal)


def _with_checksums(found: Comparison, file: Path, progress: Progress) -> Comparison:
    """Return a comparison that includes the checksums inside a checkpoint."""
    look = look_at(file)
    try:
        row = recognised(look)
    except CheckpointError as error:
        if not found.files.tensors:
            raise
        return replace(found, notes=(f"only its SHA-256 was compared: {error.what}",))
    found = replace(found, format=row.name)
    with enough_memory(file):
        known = row.known(look) if row.known is not None else Checksums(())
        nbytes = sum(held.nbytes for held in known.ranges)
        apart = differences(known, _counter(nbytes, progress))
        names = known.names() if apart else {}
    found = replace(
        found,
        parts=Amount(len(known.ranges), nbytes),
        unknown=known.unknown,
        unequal=(*found.unequal, *(_unequal(one, names) for one in apart)),
        notes=(*known.notes, *((known.stale,) if known.stale else ())) if known else (NOTHING,),
    )
    if known or found.files.tensors:
        return found
    fix = "compare it with the SHA-256 that its source gives: --digest FILE"
    return replace(found, error=look.error(NOTHING, fix))


def _unequal(one: Difference, names: Mapping[str, str]) -> Unequal:
    held = one.extent
    sums = (f"{held.crc or 0:08x}", f"{one.found:08x}")
    return Unequal(str(held.file), held.kind, held.name, "CRC-32", *sums, names.get(held.name, ""))


def _counter(total: int, progress: Progress) -> Callable[[int], None]:
    """Return a function that adds bytes that were compared, and prints a line now and then."""
    done: list[int] = [0]
    lock = Lock()

    def advance(count: int) -> None:
        with lock:
            before, done[0] = done[0], done[0] + count
            if before // _STEP_BYTES < done[0] // _STEP_BYTES:
                progress(f"compared {done[0] / 2**30:.1f} of {total / 2**30:.1f} GiB")

    return advance

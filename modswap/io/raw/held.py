"""Hold the input open while a run works on it, and notice every change of it."""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modswap.core.errors import CheckpointError
from modswap.core.kept.stamp import Stamp, Stamps
from modswap.core.progress import Progress
from modswap.io.raw.places import entries

MAX_HELD_FILES = 256  # of a folder with more, the others are opened when they are copied
# the times of a file advance in steps; of a file that is younger a change might not be noticed
TIME_STEP_NS = 10_000_000
_held: dict[str, int] = {}  # descriptors of the input's files, by path
_holds: dict[str, "Held"] = {}  # by path


class Held:
    """An input as it was when a run began to read it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.stamps = stamps_of(file)

    def refuse_change(self) -> None:
        """Compare the input with what it was.

        Raises:
            CheckpointError: If a file of it was replaced, written to, cut, removed or added.
        """
        refuse_change(self.file, self.stamps, stamps_of(self.file), "while it was read")

    def watched(self, progress: Progress) -> Progress:
        """Return the progress function with a comparison at each step."""

        def step(text: str) -> None:
            progress(text)
            self.refuse_change()

        return step


@contextmanager
def holding(file: Path) -> Iterator[Held]:
    """Hold a file, or the files of a folder, open within a block; copies read what is held.

    Inside of a block that holds it, it is compared with what it was at the beginning of that. A
    file that cannot be opened is left to its reader, which says why.

    Raises:
        CheckpointError: In place of any error of the block, if the file has changed.
    """
    if str(file) in _holds:
        yield _holds[str(file)]
        return
    before = dict(_held)
    held = Held(file)
    opened = _opened(file, held.stamps)
    _held.update(opened)
    _holds[str(file)] = held
    try:
        _wait(held.stamps)
        yield held
    except Exception:
        held.refuse_change()  # a change explains any other error
        raise
    finally:
        del _holds[str(file)]
        _held.clear()
        _held.update(before)
        for descriptor in opened.values():
            os.close(descriptor)


def open_source(file: Path) -> int:
    """Return a descriptor of a file to copy from: of the file that is held, where one is."""
    descriptor = _held.get(str(file))
    return os.open(file, os.O_RDONLY) if descriptor is None else os.dup(descriptor)


def _opened(file: Path, stamps: Stamps) -> dict[str, int]:
    opened: dict[str, int] = {}
    for stamp in [one for one in stamps if one.name or len(stamps) == 1][:MAX_HELD_FILES]:
        place = file / stamp.name if stamp.name else file
        with suppress(OSError):
            descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            opened[str(place)] = descriptor
    return opened


def _wait(stamps: Stamps) -> None:
    """Wait until the youngest file is as old as the steps of its times."""
    youngest = max((stamp.ctime_ns for stamp in stamps), default=0)
    left = youngest + TIME_STEP_NS - time.time_ns()
    if 0 < left <= TIME_STEP_NS:
        time.sleep(left / 1e9)


def stamps_of(file: Path) -> Stamps:
    """Return the stamp of a file, or of a folder and all files in it; none if it is not there.

    Raises:
        CheckpointError: If it is a folder with more files than a checkpoint has.
    """
    with suppress(OSError, ValueError):
        found = file.stat()
        if not stat.S_ISDIR(found.st_mode):
            return (_stamp("", found),) if stat.S_ISREG(found.st_mode) else ()
        # the times of a folder change with what other programs put beside its files
        own = Stamp("", found.st_dev, found.st_ino)
        return (own, *sorted(_stamps_in(file)))
    return ()


def _stamps_in(folder: Path) -> Iterator[Stamp]:
    start = len(str(folder / "x")) - 1
    for place in entries(folder):
        found = place.stat()
        if stat.S_ISREG(found.st_mode):
            yield _stamp(str(place)[start:], found)


def _stamp(name: str, found: os.stat_result) -> Stamp:
    times = found.st_mtime_ns, found.st_ctime_ns
    return Stamp(name, found.st_dev, found.st_ino, found.st_size, *times)


def refuse_change(file: Path, before: Stamps, after: Stamps, when: str) -> None:
    """Refuse an input that is no longer as it was; `when` ends the sentence.

    Raises:
        CheckpointError: At the first file that differs.
    """
    if before == after:
        return
    old, new = ({stamp.name: stamp for stamp in stamps} for stamps in (before, after))
    name = next(name for name in (*old, *new) if old.get(name) != new.get(name))
    place = file / name if name else file
    what = f"it changed {when}: {_change(old.get(name), new.get(name))}"
    raise CheckpointError(what, str(place), "let no other program write to it, and try again")


def _change(old: Stamp | None, new: Stamp | None) -> str:
    if new is None:
        return "it is no longer there"
    if old is None:
        return "it was not there before"
    if old[:3] != new[:3]:
        return "another file has its name"
    if old.nbytes != new.nbytes:
        return f"it had {old.nbytes:,} bytes, and has {new.nbytes:,}"
    return "it was written to, renamed or given other permissions"

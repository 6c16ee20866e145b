"""The resume file of a healing: results of the stages that ended, and the state of the present one.

It holds tensors, numbers and texts, is read without building anything else, and is replaced as a
whole, so that a process that is killed leaves the state before.
"""

import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch

from modswap.core.errors import CheckpointError, UsageError
from modswap.core.words.printable import shown
from modswap.io.formats.torch.save import unsaved
from modswap.io.raw.atomic import replacing
from modswap.io.recognise.small_files import opened
from modswap.ops.heal import ranks
from modswap.ops.heal.fitting.resume_parts import (
    is_folder,
    load_parts,
    new_folder,
    remove_folders,
    save_parts,
)

OPTION = "--resume"
_VERSION = 1
_START_AGAIN = "start again without it"
# of torch and of Python's zips, about a file that is damaged or of something else
_DAMAGED = (
    RuntimeError, ValueError, LookupError, AttributeError, TypeError, EOFError,
    pickle.UnpicklingError, BadZipFile,
)  # fmt: skip

Plain = str | int | float | bool | None
State = dict[str, Any]  # nested dicts and lists of tensors, numbers and texts


class ResumeFile:
    """A resume file, written after each stage and as often as a stage asks.

    Args:
        file: Its place; None keeps nothing.
        job: What the results depend on, by name: files, seed, steps. Reading refuses a file of
            another job.
    """

    def __init__(self, file: Path | None, job: Mapping[str, Plain]) -> None:
        self.file = file
        self.job = dict(job)
        self.kept = file is not None  # by the first of several processes
        self._finished: dict[str, State] = {}
        self._present: tuple[str, State] | None = None
        self._parts = ""  # name of the folder of the present state's tensors, where there is one

    @classmethod
    def begin(cls, file: Path, job: Mapping[str, Plain], *, force: bool) -> "ResumeFile":
        """Return the file of a new run; that of a run that was broken off is kept without `force`.

        Raises:
            CheckpointError: If there is one, or another's file in its place.
        """
        if file.exists():
            try:
                _read(file)
            except CheckpointError:
                what = "it is in the place of the resume file, and is none"
                raise CheckpointError(
                    what, str(file), "move it away, or name another OUT"
                ) from None
            if not force:
                what = "a run that was broken off left it"
                fix = "add --resume to go on, or --force to start again"
                raise CheckpointError(what, str(file), fix)
        return cls(file, job)

    @classmethod
    def read(cls, file: Path, job: Mapping[str, Plain]) -> "ResumeFile":
        """Return what a file holds.

        Raises:
            CheckpointError: If it cannot be read, or is no resume file.
            UsageError: If it is one of another job.
        """
        held = _read(file)
        changed = sorted(
            str(name)
            for name in {*job, *held["job"]}
            if job.get(name, "absent") != held["job"].get(name, "absent")
        )
        if changed:
            before, now = (shown(each.get(changed[0])) for each in (held["job"], job))
            what = f"{file} is of another run: its {changed[0]} was {before}, is now {now}"
            raise UsageError(what, OPTION, f"call it with the same options, or {_START_AGAIN}")
        made = cls(file, job)
        made._finished = held["finished"]
        if held["present"]:
            state, made._parts = held["present"]["state"], held.get("parts", "")
            state = load_parts(file.with_name(made._parts), state) if made._parts else state
            made._present = (held["present"]["key"], state)
        return made

    def share(self) -> None:
        """Give every process what the first one has read."""
        held = self._finished, self._present, self.kept
        self._finished, self._present, self.kept = ranks.from_first(held)

    def finished(self, stage: str, site: str) -> State | None:
        """Return the result of a stage at a site, or None if it has not ended."""
        return self._finished.get(_key(stage, site))

    def state(self, stage: str, site: str) -> State | None:
        """Return the state of a stage at a site, or None if it has not begun or has ended."""
        if self._present is None or self._present[0] != _key(stage, site):
            return None
        return self._present[1]

    def keep(self, stage: str, site: str, state: State) -> None:
        """Write the file with the state of a stage that goes on, all processes together."""
        if not self.kept:
            return
        if ranks.world() > 1:
            folder = Path(ranks.from_first(str(new_folder(self.file)) if self.file else ""))
            state, self._parts = save_parts(folder, state), folder.name
        else:
            self._parts = ""
        self._present = (_key(stage, site), state)
        self._write()

    def finish(self, stage: str, site: str, result: State) -> None:
        """Write the file with the result of a stage."""
        self._present, self._parts = None, ""
        self._finished[_key(stage, site)] = result
        self._write()

    def _write(self) -> None:
        if self.file is None:
            return
        present = self._present and {"key": self._present[0], "state": self._present[1]}
        held = {
            "modswap.resume": _VERSION,
            "job": self.job,
            "finished": self._finished,
            "present": present,
            "parts": self._parts,
            "time": time.time(),
        }
        with replacing(self.file, force=True) as temporary, temporary.open("wb") as stream:
            try:
                torch.serialization.save(held, stream)
            except RuntimeError as error:  # as torch reports a full disk
                raise unsaved(error) from error
        remove_folders(self.file, but=self._parts)

    def remove(self) -> None:
        """Remove the file, which a run that has ended needs no more."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)
            remove_folders(self.file)


def _key(stage: str, site: str) -> str:
    return f"{stage} {site}".rstrip()


def _read(file: Path) -> State:
    try:
        with opened(file) as stream:
            _compare_checksums(file, stream)
            # its tensors and plain values: weights_only builds nothing else
            held: State = torch.serialization.load(stream, map_location="cpu", weights_only=True)  # noqa: TID251 - as said above
    except OSError as error:
        what = f"it cannot be read: {error.strerror or error}"
        raise CheckpointError(what, str(file), f"name the file, or {_START_AGAIN}") from error
    except _DAMAGED as error:
        raise _no_resume_file(file) from error
    if not _is_whole(held):
        raise _no_resume_file(file)
    return held


def _compare_checksums(file: Path, stream: BinaryIO) -> None:
    """Refuse a file that torch would not have written, or in which a bit has changed."""
    if not is_zipfile(stream):
        raise _no_resume_file(file)
    with ZipFile(stream) as records:
        if any(one.compress_type != ZIP_STORED for one in records.infolist()):
            raise _no_resume_file(file)
        if records.testzip() is not None:
            raise CheckpointError("it is damaged: a checksum differs", str(file), _START_AGAIN)
    stream.seek(0)


def _is_whole(held: Any) -> bool:
    """Return whether a file holds all that `ResumeFile` writes."""
    if not isinstance(held, dict) or held.get("modswap.resume") != _VERSION:
        return False
    present, parts = held.get("present"), held.get("parts", "")
    named = all(isinstance(held.get(name), dict) for name in ("job", "finished"))
    stated = present is None or (isinstance(present, dict) and {"key", "state"} <= present.keys())
    return named and stated and isinstance(parts, str) and (not parts or is_folder(parts))


def _no_resume_file(file: Path) -> CheckpointError:
    return CheckpointError("it is no resume file", str(file), _START_AGAIN)

"""Read and write lock files, and compute the fingerprints of checkpoints in them."""

import hashlib
import os
import stat
import zipfile
from codecs import BOM_UTF8
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from modswap.core.errors import CheckpointError, UsageError
from modswap.core.kept.lock import Entry, Fingerprint, Lock
from modswap.core.kept.stamp import Stamps
from modswap.io.raw.atomic import digest, replacing
from modswap.io.raw.held import refuse_change, stamps_of
from modswap.io.recognise.json_text import MalformedError, parse_json
from modswap.io.recognise.look import unreadable
from modswap.io.recognise.small_files import MAX_LOCK_BYTES, read_small

MAX_WHOLE_BYTES = 256 << 20  # of a larger checkpoint only the structure is read
_PIECES, _PIECE_BYTES, _HEAD_BYTES = 256, 64 << 10, 8 << 20
_ANEW = "write it: `modswap check RECIPE --lock`"


def read_lock(file: Path) -> Lock:
    """Return the content of a lock file.

    Raises:
        UsageError: If there is none, or it is damaged.
    """
    try:
        data = read_small(file, MAX_LOCK_BYTES)
        with suppress(MalformedError):  # the model says where
            parse_json(data, str(file))
        return Lock.model_validate_json(data)
    except FileNotFoundError:
        raise UsageError("there is no lock file", str(file), _ANEW) from None
    except CheckpointError as error:
        what = f"the lock file cannot be read: {error.what.removeprefix('it cannot be read: ')}"
        raise UsageError(what, str(file), error.fix) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its top"
        what = f"it is not a lock file: at {place!r}: {first['msg'].lower()}"
        raise UsageError(what, str(file), f"remove it, and {_ANEW}") from None


def write_lock(file: Path, entries: Mapping[str, Entry]) -> None:
    """Write entries into a lock file as a whole; the entries of other recipes stay.

    Raises:
        UsageError: If the existing file is neither a lock file nor empty.
        CheckpointError: If it cannot be written.
    """
    before = stamps_of(file)
    kept = read_lock(file).recipes if file.exists() and file.stat().st_size else {}
    lock = Lock(recipes={**kept, **entries})

    def ready() -> None:
        refuse_change(file, before, stamps_of(file), "while it was written anew")

    with replacing(file, force=True, ready=ready) as temporary:
        temporary.write_text(lock.text(), encoding="utf-8")


def key_of(name: str | Path, lock: Path) -> str:
    """Return the path of a file relative to the folder of a lock file."""
    folder = lock.resolve().parent
    try:
        return Path(os.path.relpath(Path(name).resolve(), folder)).as_posix()
    except ValueError:  # pragma: no cover - another drive of Windows
        return Path(name).resolve().as_posix()


def digest_of_recipe(name: str, checked: str = "") -> str:
    """Return the SHA-256 of a recipe's file in hexadecimal.

    `checked` is that of the text that was checked; empty if unknown.

    Raises:
        UsageError: If it is read from standard input or a pipe.
        CheckpointError: If it cannot be read, or holds another text than the one that was checked.
    """
    fix = "put the recipe into a file"
    if name == "-":
        raise UsageError("standard input cannot be locked", "--lock", fix)
    try:
        if not stat.S_ISREG(Path(name).stat().st_mode):  # a pipe was read already
            raise UsageError("it is no file, and cannot be locked", name, fix)
        raw = Path(name).read_bytes()
    except OSError as error:
        raise unreadable(Path(name), error) from None
    if checked and hashlib.sha256(raw.removeprefix(BOM_UTF8)).hexdigest() != checked:
        raise CheckpointError("it changed after it was checked", name, "check it again")
    return hashlib.sha256(raw).hexdigest()


def fingerprint(
    file: Path, name: str, whole: int = MAX_WHOLE_BYTES, *, checked: Stamps = ()
) -> Fingerprint:
    """Return the fingerprint of a file or folder; it takes seconds for any size.

    Up to `whole` bytes, all are read. `name` is the name in the lock file. `checked` are the
    stamps of the files that were checked; empty if unknown.

    Raises:
        CheckpointError: If it cannot be read, or changed after it was checked.
    """
    try:
        parts = [file] if not file.is_dir() else sorted(p for p in file.rglob("*") if p.is_file())
        nbytes = sum(part.stat().st_size for part in parts)
        read = digest if nbytes <= whole else _structure
        if parts == [file]:
            found = read(file)
        else:
            lines = [f"{part.relative_to(file).as_posix()}\0{read(part)}\n" for part in parts]
            found = hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    except OSError as error:
        raise unreadable(file, error) from None
    if checked:
        refuse_change(file, checked, stamps_of(file), "after it was checked")
    kind = "sha256" if read is digest else "structure"
    return Fingerprint(name=name, nbytes=nbytes, kind=kind, digest=found)


def _structure(file: Path) -> str:
    if file.stat().st_size <= _HEAD_BYTES:
        return digest(file)
    with file.open("rb") as stream:
        is_zip = stream.read(4) == b"PK\3\4"
    with suppress(zipfile.BadZipFile):
        if is_zip:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
            lines = [f"{e.filename}\0{e.file_size}\0{e.CRC}\n" for e in entries]
            return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    return _pieces(file)


def _pieces(file: Path) -> str:
    """Return the digest of the head of a file and of pieces at equal distances, to its end."""
    size = file.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        found.update(stream.read(_HEAD_BYTES))  # in safetensors files: names, shapes, dtypes
        for number in range(1, _PIECES + 1):
            stream.seek((size - _PIECE_BYTES) * number // _PIECES)
            found.update(stream.read(_PIECE_BYTES))
    return found.hexdigest()

"""Recognise the format of a file from its content, and name the formats that are not read."""

import json
import os
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from modswap.core.budget import MAX_HEADER_ENTRIES, SHORTER_NAMES, names_flaw
from modswap.core.errors import CheckpointError
from modswap.core.words.nearest import file_near
from modswap.core.words.printable import shown
from modswap.io.recognise.zip_directory import UNSOUND, flaw, shared_name

_HEAD_BYTES = 1024
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # torch's number, pickled


@dataclass(frozen=True, slots=True)
class Look:
    """The first bytes of a file or folder, and the names in it."""

    file: Path
    head: bytes  # empty for a folder
    size: int  # bytes
    names: tuple[str, ...] = ()  # of the entries if it is a zip or a folder
    sizes: tuple[int, ...] = ()  # bytes of each entry of a zip

    def error(self, what: str, fix: str = "save or download it again") -> CheckpointError:
        """Return an error about this file."""
        return CheckpointError(what, str(self.file), fix)


def look_at(file: Path) -> Look:
    """Return a look at a file; a pipe or device, on which reading could hang, is not opened.

    Raises:
        CheckpointError: If there is no such file, or it cannot be read.
    """
    try:
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            return Look(file, b"", 0, tuple(sorted(entry.name for entry in file.iterdir())))
        _refuse_odd(file, status)
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        fix = file_near(file) or "check the name and the folder"
        raise CheckpointError("no such file", str(file), fix) from None
    except (OSError, ValueError) as error:  # a zero byte in the name raises a ValueError
        raise unreadable(file, error) from None
    look = Look(file, head, status.st_size)
    return _zip(look) if head[:4] == b"PK\3\4" else look


def _refuse_odd(file: Path, status: os.stat_result) -> None:
    """Refuse an empty file and anything that is no regular file, before it is opened."""
    kind = kind_of(status.st_mode)
    if kind:
        raise CheckpointError(f"it is {kind}, expected a checkpoint file", str(file), "name a file")
    if status.st_size == 0:
        raise CheckpointError("it is empty", str(file), "save or download it again")


def kind_of(mode: int) -> str:
    """Return the kind of a path that is no regular file; an empty text for a regular file."""
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISREG: "",
    }
    return next((name for test, name in kinds.items() if test(mode)), "a device")


def unreadable(file: Path, error: OSError | ValueError) -> CheckpointError:
    """Return the error for a file that the operating system refuses to read."""
    reason = (isinstance(error, OSError) and error.strerror) or error
    fix = "check the name and its permissions"
    return CheckpointError(f"it cannot be read: {reason}", str(file), fix)


def _zip(look: Look) -> Look:
    """Return the look at a zip with its entries; refuse a torch zip with a flaw."""
    try:
        with zipfile.ZipFile(look.file) as archive:
            entries, directory = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        what = f"it is damaged or cut short: no readable zip directory ({error})"
        raise look.error(what) from None
    names = tuple(entry.filename for entry in entries)
    if name := shared_name(entries):
        raise look.error(f"two entries of its zip have one name: {name!r}", UNSOUND)
    look = replace(look, names=names, sizes=tuple(entry.file_size for entry in entries))
    if is_torch_zip(look) and (found := flaw(look.file, look.size, entries, directory)):
        raise look.error(*found)
    return look


def has_entry(look: Look, name: str) -> bool:
    """Return whether a zip holds an entry of this name below its root folder."""
    return any(entry.partition("/")[2] == name for entry in look.names)


def is_torch_zip(look: Look) -> bool:
    """Return whether a file was written by `torch.save`."""
    return has_entry(look, "data.pkl") and not has_entry(look, "constants.pkl")


def is_torch_legacy(look: Look) -> bool:
    """Return whether a file was written by `torch.save` before version 1.6."""
    return look.head[:1] == b"\x80" and _LEGACY_MAGIC in look.head[:32]


def is_exported(look: Look) -> bool:
    """Return whether a file was written by `torch.export.save`, in any version."""
    old = "serialized_exported_program.json"
    return has_entry(look, "models/model.json") or old in look.names


def is_safetensors(look: Look) -> bool:
    """Return whether a file begins as safetensors files do: a length and a JSON object."""
    length = int.from_bytes(look.head[:8], "little")
    return look.size > 8 and look.head[8:9] == b"{" and 2 <= length <= 100_000_000


_OTHER_FRAMEWORK = "modswap works on PyTorch models"


def foreign(look: Look) -> CheckpointError:
    """Return the error for a file of a format that is not read, with advice."""
    if not look.head:
        what = "it is a folder, and none of its files is an index of weights or weights themselves"
        return look.error(what, "name the checkpoint inside")
    named = _foreign_zip(look) if look.names else _foreign_head(look)
    if named is not None:
        return look.error(*named)
    if _is_text(look.head):
        first = look.head.splitlines()[0][:60].decode("utf-8", "replace")
        what = f"it is a text file that begins {first!r}, expected a checkpoint"
        index = look.file.name.endswith(".index.json")
        fix = f"name its folder, {look.file.parent}" if index else "name the checkpoint itself"
        return look.error(what, fix)
    what = f"it is of no known format (it begins {look.head[:8].hex(' ')})"
    return look.error(what, "modswap reads files of torch.save and of safetensors")


_ARCHIVES: tuple[tuple[Callable[[Look], bool], str, str], ...] = (
    (
        lambda look: has_entry(look, "constants.pkl"),
        "it is a TorchScript archive",
        "TorchScript has no modules to swap: swap in the eager model, then script it",
    ),
    (
        lambda look: (
            has_entry(look, "archive_format") or any("/models/" in f"/{n}" for n in look.names)
        ),
        "it is a torch.export archive (.pt2)",
        "torch executes such files on loading: swap in the eager model, then export it",
    ),
    (
        lambda look: has_entry(look, ".data/extern_modules"),
        "it is a torch.package archive",
        "torch runs the code inside on loading: save the model or its weights by torch.save",
    ),
    (
        lambda look: "MAR-INF/MANIFEST.json" in look.names,
        "it is a TorchServe archive (.mar)",
        "unpack it and name the checkpoint inside",
    ),
    (
        lambda look: any(name.endswith(".npy") for name in look.names),
        "it is a NumPy archive",
        "load it with NumPy and save a state dict",
    ),
    (
        lambda look: has_entry(look, "config.json") or "config.json" in look.names,
        "it is a Keras archive",
        _OTHER_FRAMEWORK,
    ),
    (
        lambda _: True,
        "it is a zip, but none that torch.save wrote",
        "unpack it and name the checkpoint inside",
    ),
)


def _foreign_zip(look: Look) -> tuple[str, str]:
    return next((what, fix) for holds, what, fix in _ARCHIVES if holds(look))


_EXPORTED = "swap in the PyTorch model, then export it again"
_TENSORFLOW = "it belongs to a TensorFlow model"
_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # at the end of TensorFlow's index files
_HEADS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "it is a git-LFS pointer, not the file", "run `git lfs pull`"),
    (b"GGUF", "it is a GGUF file", "GGUF holds quantized weights: swap in the original model"),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file (Keras)", _OTHER_FRAMEWORK),
    (b"\x93NUMPY", "it is a NumPy array", "load it with NumPy and save a state dict"),
    (b"\x1f\x8b", "it is compressed (gzip)", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is compressed (7z)", "unpack it first"),
    (b"\xfd7zXZ\0", "it is compressed (xz)", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed (zstd)", "unpack it first"),
    (b"BZh", "it is compressed (bzip2)", "unpack it first"),
    (b"model_checkpoint_path:", _TENSORFLOW, _OTHER_FRAMEWORK),
)  # fmt: skip


def _foreign_head(look: Look) -> tuple[str, str] | None:
    head = look.head
    for magic, what, fix in _HEADS:
        if head.startswith(magic):
            return what, fix
    start = head.lstrip()[:64].lower()
    if start.startswith(b"<?xml"):
        return "it is an XML file, not a checkpoint", _OTHER_FRAMEWORK
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "it is a web page, not a checkpoint", "download the file itself, not its page"
    return _foreign_binary(look)


def _foreign_binary(look: Look) -> tuple[str, str] | None:
    head = look.head
    if head[4:8] == b"TFL3" or _ends_with(look.file, _TABLE):
        return _TENSORFLOW, _OTHER_FRAMEWORK
    if head[4:6] == b"ET" and head[6:8].isdigit():
        return (
            "it is an ExecuTorch program (.pte)",
            "swap in the PyTorch model, then export it again",
        )
    if head[257:262] == b"ustar":
        return "it is a tar archive", "unpack it, or save the model again with a current torch"
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        fix = "load it where it was made and save it with torch.save"
        return f"it is a pickle (protocol {head[1]}) that torch.save did not write", fix
    if head[:1] == b"\x08" and (b"onnx" in head.lower() or b"pytorch" in head):
        return "it is an ONNX model", _EXPORTED
    return None


def _ends_with(file: Path, tail: bytes) -> bool:
    with file.open("rb") as stream:
        stream.seek(-min(len(tail), file.stat().st_size), 2)
        return stream.read() == tail


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text)


def header_of_safetensors(look: Look) -> dict[str, object]:
    """Return the header of a safetensors file.

    Raises:
        CheckpointError: If it is damaged, cut short, names a tensor twice, or has a name that is
            too long, or too many names.
    """
    length = int.from_bytes(look.head[:8], "little")
    if length + 8 > look.size:
        what = f"it is cut short: its header takes {length:,} bytes, the file has {look.size:,}"
        raise look.error(what)
    with look.file.open("rb") as stream:
        stream.seek(8)
        text = stream.read(length)

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(pairs) > MAX_HEADER_ENTRIES:
            raise look.error(f"its header has over {MAX_HEADER_ENTRIES:,} entries")
        header = dict(pairs)
        if len(header) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            name = next(name for name, count in counts.items() if count > 1)
            raise look.error(f"its header names {shown(name)} twice", UNSOUND)
        return header

    try:
        # the file begins with a brace: valid JSON is an object
        header = cast("dict[str, object]", json.loads(text, object_pairs_hook=once))
    except (ValueError, RecursionError) as error:
        raise look.error(f"its header is damaged: {error}") from None
    if flaw := names_flaw(header):
        raise look.error(flaw, SHORTER_NAMES)
    return header

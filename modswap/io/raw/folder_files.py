"""List the files of a folder, and read modswap's own records in it."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from modswap.io.recognise.json_text import MalformedError
from modswap.io.recognise.small_files import MAX_RECORDS_BYTES, read_json

RECORDS = "modswap.json"


def other_files(folder: Path) -> Iterator[Path]:
    """Yield the paths of all files in a folder and its subfolders, relative to the folder."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder)


def own_records(folder: Path) -> dict[str, str] | None:
    """Return the recipe and the receipt in a folder; None if it has no file of them.

    Raises:
        CheckpointError: If the file is a pipe, a device or a link that leaves the folder, cannot be
            read, or is such that no program writes it.
    """
    try:
        return texts(read_json(folder / RECORDS, MAX_RECORDS_BYTES, folder=folder))
    except (FileNotFoundError, MalformedError):
        return None


def texts(found: object) -> dict[str, str]:
    """Return the entries of a JSON object that are texts and not empty."""
    held = found if isinstance(found, dict) else {}
    return {name: text for name, text in held.items() if isinstance(text, str) and text}


def as_json(value: object) -> bytes:
    """Return a value as the text of a JSON file."""
    text = f"{json.dumps(value, indent=2, ensure_ascii=False)}\n"
    return text.encode("utf-8", "backslashreplace")  # as JSON writes half a character


def put_texts(folder: Path, files: Mapping[str, bytes], digests: Mapping[str, str]) -> str:
    """Write the last, small files of a folder; return one SHA-256 for all of its files.

    `digests` holds the SHA-256 of every other file, by its name.
    """
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = {**digests, **{name: sha256(data).hexdigest() for name, data in files.items()}}
    lines = "".join(f"{found[name]}  {name}\n" for name in sorted(found))
    return sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()

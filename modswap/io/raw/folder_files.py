"""List the files of a folder, and read modswap's own records in it."""

import json
from collections.abc import Iterator
from pathlib import Path

RECORDS = "modswap.json"


def other_files(folder: Path) -> Iterator[Path]:
    """Yield the paths of all files in a folder and its subfolders, relative to the folder."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder)


def own_records(folder: Path) -> dict[str, str] | None:
    """Return the recipe and the receipt in a folder; None if it has no file of them."""
    try:
        return texts(json.loads((folder / RECORDS).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def texts(found: object) -> dict[str, str]:
    """Return the entries of a JSON object that are texts and not empty."""
    held = found if isinstance(found, dict) else {}
    return {name: text for name, text in held.items() if isinstance(text, str) and text}

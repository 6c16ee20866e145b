"""Files of a folder beside its weights, modswap's own records among them."""

import json
from collections.abc import Iterator
from pathlib import Path

RECORDS = "modswap.json"


def other_files(folder: Path) -> Iterator[Path]:
    """Yield every file in a folder, those below it included, relative to it."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder)


def own_records(folder: Path) -> dict[str, str] | None:
    """Return the recipe and receipt that lie beside the weights; None if there is no such file."""
    try:
        return texts(json.loads((folder / RECORDS).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None


def texts(found: object) -> dict[str, str]:
    """Return the entries of a JSON object that are texts, and not empty."""
    held = found if isinstance(found, dict) else {}
    return {name: text for name, text in held.items() if isinstance(text, str) and text}

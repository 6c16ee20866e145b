"""The module that `explain` is called for: a name, a place in a file, or a class."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

NAME, FILE, CLASS = "name", "file", "class"
# endings of files of models; a missing one is looked for as a file all the same
ENDINGS = frozenset((".bin", ".ckpt", ".pt", ".pt2", ".pth", ".safetensors", ".zip"))


class Target(NamedTuple):
    """A module to explain."""

    kind: str  # NAME, FILE or CLASS
    text: str  # the name, the file, or the reference of the class with its arguments
    path: str = ""  # of the module in the file; empty for the model itself


def parse_target(text: str, exists: Callable[[Path], bool] = Path.exists) -> Target:
    """Return what a text names: `NAME`, `FILE`, `FILE:PATH` or `package.module:Class`."""
    if _is_file(text, exists):
        return Target(FILE, text)
    left, colon, right = text.rpartition(":")
    if colon and _is_file(left, exists):
        return Target(FILE, left, right)
    return Target(CLASS if colon else NAME, text)


def _is_file(text: str, exists: Callable[[Path], bool]) -> bool:
    """Return whether a text names a file or folder of a model, also one that does not exist."""
    if not text or text.endswith(".py") or "(" in text or "\0" in text:
        return False
    place = Path(text)
    if place.suffix.lower() in ENDINGS or text.endswith((os.sep, "/")):
        return True
    return exists(place) and (len(place.parts) > 1 or "." in text or place.is_dir())

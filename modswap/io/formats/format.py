"""What a row of the table of formats holds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modswap.core.job import Policy
from modswap.io.formats.container import Container
from modswap.io.recognise import Look


@dataclass(frozen=True, slots=True)
class Records:
    """modswap's own records, to travel inside a file.

    Args:
        recipe: The recipe as it was carried out; empty for none.
        receipt: The receipt as JSON; empty for none.
    """

    recipe: str = ""
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """A checkpoint format.

    Args:
        name: As reports print it.
        endings: File name endings that ask for it; empty if it is never written.
        recognise: Whether a file is of this format, by its content.
        load: Reads a file.
        save: Writes a payload to a file: payload, file, records, metadata.
        weights_only: Whether it can hold nothing but named tensors.
    """

    name: str
    endings: tuple[str, ...]
    recognise: Callable[[Look], bool]
    load: Callable[[Look, Policy], Container]
    save: Callable[[Any, Path, Records, dict[str, str]], None]
    weights_only: bool = False

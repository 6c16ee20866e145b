"""What a row of the table of formats holds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.asked.job import Policy
from modswap.io.formats.container import Container, Slot
from modswap.io.pickled.optimizers import Parameters
from modswap.io.recognise.look import Look
from modswap.io.rewriting import Records, Rewriting


@dataclass(frozen=True, slots=True)
class Swap:
    """New modules for one slot of a checkpoint.

    Args:
        slot: The place.
        modules: Each with the paths that it goes to, in the dtype of the place.
        more: Beginnings of further names that go.
    """

    slot: Slot
    modules: tuple[tuple[tuple[str, ...], nn.Module], ...]
    more: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return what the names of tensors begin with that belong to what is replaced."""
        place = "".join(f"{key}." for key in self.slot.keys) + self.slot.prefix
        own = tuple(f"{place}{path}." for paths, _ in self.modules for path in paths)
        return (*own, *self.more)


@dataclass(frozen=True, slots=True)
class Swaps:
    """Everything that goes into a checkpoint.

    Args:
        slots: What goes into each of its slots.
        parameters: The model's, before and after.
    """

    slots: tuple[Swap, ...]
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Format:
    """A checkpoint format.

    Args:
        name: As reports print it.
        endings: File name endings that ask for it; empty if it is never written.
        recognise: Whether a file is of this format, by its content.
        load: Reads a file.
        save: Writes a payload to a file: payload, file, records, metadata.
        rewrite: Prepares the same file with other modules in it, read as data; raises
            `UnreadableError` where it cannot, and the payload is saved instead.
        weights_only: Whether it can hold nothing but named tensors.
        folder: Whether it is a folder.
    """

    name: str
    endings: tuple[str, ...]
    recognise: Callable[[Look], bool]
    load: Callable[[Look, Policy], Container]
    save: Callable[[Any, Path, Records, dict[str, str]], None]
    rewrite: Callable[[Container, Swaps, Policy], Rewriting]
    weights_only: bool = False
    folder: bool = False

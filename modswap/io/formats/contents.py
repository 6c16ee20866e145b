"""All that a checkpoint holds, read as data: tensors by their places, modules, other values."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from modswap.core.kept.difference import Facts
from modswap.core.seen.entries import PlainEntry
from modswap.io.raw.byte_range import ByteRange


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangular part of a tensor, in the order of its rows."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    extent: ByteRange


@dataclass(frozen=True, slots=True)
class HeldTensor:
    """A tensor in a file, with the places of its bytes.

    Args:
        facts: Its dtype, shape and kind.
        extents: Its bytes, one range behind the other, in the order in which they are stored.
        strides: Of its elements in these bytes; None where they are in the order of its rows.
        tiles: The parts it consists of, where they are not behind one another; `extents` is empty.
        identity: Equal for the names of one tensor; None for a tensor with a single name.
        optional: Whether files of weights leave it out, as buffers that are not persistent.
    """

    facts: Facts
    extents: tuple[ByteRange, ...]
    strides: tuple[int, ...] | None = None
    tiles: tuple[Tile, ...] = ()
    identity: Hashable = None
    optional: bool = False

    @property
    def numel(self) -> int:
        """Return how many elements it has."""
        return prod(self.facts.shape)

    @property
    def dense(self) -> bool:
        """Return whether its bytes are its elements, in any order, and nothing else."""
        if self.strides is None or not self.numel:
            return not self.tiles
        return span(self.facts.shape, self.strides) == self.numel

    @property
    def nbytes(self) -> int:
        """Return the bytes that it takes in the file."""
        return sum(held.nbytes for held in (*self.extents, *(tile.extent for tile in self.tiles)))


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a checkpoint holds.

    Names of the model's tensors and modules are relative to the model; those of anything else begin
    with its key, `ema:stem.weight`.

    Args:
        format: Name of the row of the table of formats.
        tensors: By name, in the order of the file.
        modules: The class of each module by its path; empty for weights without code.
        entries: All other values by name.
        numbered: Beginnings of an optimizer's names that have numbers of parameters, with those
            that have the parameters' names in place of them.
        grouped: The lists of parameters of an optimizer's groups, with names in place of numbers.
        place: Where the model is, in words; empty where the file holds nothing else.
        complete: Whether every module is among `modules`, also those without operations.
        notes: Anything else worth knowing, a sentence each.
    """

    format: str
    tensors: Mapping[str, HeldTensor]
    modules: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, PlainEntry] = field(default_factory=dict)
    numbered: Mapping[str, str] = field(default_factory=dict)
    grouped: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    complete: bool = True
    notes: tuple[str, ...] = ()

    @property
    def by_parameter(self) -> "Contents":
        """Return them with the state of optimizers under the names of parameters."""
        tensors = {self._name(name): held for name, held in self.tensors.items()}
        entries = {
            self._name(name): replace(entry, text=self.grouped.get(name, entry.text))
            for name, entry in self.entries.items()
        }
        return replace(self, tensors=tensors, entries=entries, numbered={}, grouped={})

    def _name(self, name: str) -> str:
        if ":" not in name:
            return name
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            known = self.numbered.get(".".join(parts[:count]))
            if known is not None:
                return ".".join((known, *parts[count:]))
        return name


def row_major(shape: tuple[Any, ...], strides: tuple[Any, ...]) -> bool:
    """Return whether elements lie in the order of the rows, one behind the other.

    Raises:
        ValueError: If there is no stride of its own, of at least 0, for each side.
    """
    if len(shape) != len(strides) or not all(isinstance(one, int) and one >= 0 for one in strides):
        raise ValueError("a tensor of it has strides that do not fit its sizes")
    step = 1
    for side, stride in zip(reversed(shape), reversed(strides), strict=True):
        if side != 1 and stride != step:
            return False
        step *= side
    return True


def span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Return how many elements lie from the first to the last of a tensor that has some."""
    return 1 + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))

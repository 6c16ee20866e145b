"""What is to change in a checkpoint, as plain data."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from modswap.core.kept.ledger import Changes


@dataclass(frozen=True, slots=True)
class Graft:
    """New modules for one place of a checkpoint.

    Args:
        keys: Keys from the payload down to the model or its weights.
        prefix: What wrappers put before every name there.
        paths: For each new module the paths that it goes to.
        packed: The modules, or their state dicts, as a list in a zip of `torch.save`.
        more: Beginnings of further names that go from a state dict.
    """

    keys: tuple[str, ...]
    prefix: str
    paths: tuple[tuple[str, ...], ...]
    packed: bytes
    more: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return what the names of tensors begin with that belong to what is replaced."""
        place = "".join(f"{key}." for key in self.keys) + self.prefix
        return tuple(f"{place}{path}." for paths in self.paths for path in paths)


class Mark(NamedTuple):
    """A tensor, known by where its bytes lie and how they are read.

    Args:
        content: Equal for two tensors if, and only if, all that is known of them is equal.
        place: Where its bytes lie.
        nbytes: Their number.
    """

    content: Hashable
    place: Hashable
    nbytes: int


@dataclass(frozen=True, slots=True)
class Records:
    """modswap's own records, to travel inside a file.

    Args:
        recipe: The recipe as it was carried out; empty for none.
        receipt: The receipt as JSON; empty for none.
    """

    recipe: str = ""
    receipt: str = ""


class Rewriting(Protocol):
    """A file that is to be written: everything is decided, nothing is on the disk."""

    @property
    def before(self) -> Mapping[str, Mark]:
        """Return every tensor of the file as it is."""
        ...

    @property
    def after(self) -> Mapping[str, Mark]:
        """Return every tensor of the file as it would be."""
        ...

    @property
    def changes(self) -> Changes:
        """Return which tensors it changes."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is worth telling, a sentence each."""
        ...

    def write(self, out: Path, records: Records, *, checksums: bool) -> "Rewritten":
        """Write the file into an empty one."""
        ...


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file that was written and read again.

    Args:
        sha256: Its digest in hexadecimal.
        tensors: Every tensor in it; what was copied bears the mark of what it is a copy of.
    """

    sha256: str
    tensors: Mapping[str, Mark] = field(default_factory=dict)

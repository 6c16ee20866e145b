"""The changes of a checkpoint and the tensors in it, as plain data."""

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
        prefix: The prefix that wrappers put before every name there.
        paths: For each new module its paths.
        packed: The modules, or their state dicts, as a list in a zip of `torch.save`.
        more: Beginnings of further tensor names to remove from a state dict.
    """

    keys: tuple[str, ...]
    prefix: str
    paths: tuple[tuple[str, ...], ...]
    packed: bytes
    more: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the names of all tensors of the old modules."""
        place = "".join(f"{key}." for key in self.keys) + self.prefix
        return tuple(f"{place}{path}." for paths in self.paths for path in paths)


class Mark(NamedTuple):
    """The identity of a tensor, without its bytes.

    Args:
        content: Equal for two tensors if, and only if, bytes, shape and dtype are the same.
        place: The file and offset of its bytes.
        nbytes: Their number.
    """

    content: Hashable
    place: Hashable
    nbytes: int


@dataclass(frozen=True, slots=True)
class Records:
    """The records of modswap that are written into a file.

    Args:
        recipe: The recipe as it was applied; empty for none.
        receipt: The receipt as JSON; empty for none.
    """

    recipe: str = ""
    receipt: str = ""

    def named(self, recipe: str, receipt: str) -> dict[str, str]:
        """Return the records that are not empty, under the names that a format gives them."""
        return {name: t for name, t in ((recipe, self.recipe), (receipt, self.receipt)) if t}


class Rewriting(Protocol):
    """A prepared file: everything is decided, nothing is written yet."""

    @property
    def before(self) -> Mapping[str, Mark]:
        """Return every tensor of the old file."""
        ...

    @property
    def after(self) -> Mapping[str, Mark]:
        """Return every tensor of the new file."""
        ...

    @property
    def changes(self) -> Changes:
        """Return the tensors that change."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Return notes for the report."""
        ...

    def write(self, out: Path, records: Records, *, checksums: bool) -> "Rewritten":
        """Write the new file over an empty one."""
        ...


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file that was written and read again.

    Args:
        sha256: Its digest in hexadecimal.
        tensors: Every tensor in it; a copied tensor has the mark of its original.
    """

    sha256: str
    tensors: Mapping[str, Mark] = field(default_factory=dict)

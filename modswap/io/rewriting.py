"""The changes of a checkpoint and the tensors in it, as plain data."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from modswap.core.kept.ledger import Changes


@dataclass(frozen=True, slots=True)
class Removal:
    """The names of the tensors that a swap removes from a file.

    They begin with one of `prefixes`, each of which ends in a dot, or are `names`. `heirs` are
    names that the file leaves out, of tensors that stay under them where their own name goes.
    """

    prefixes: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    heirs: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        """Return whether a tensor of this name is removed."""
        return name.startswith(self.prefixes) or name in self.names


NONE_REMOVED = Removal()


@dataclass(frozen=True, slots=True)
class Graft:
    """New modules for one place of a checkpoint."""

    keys: tuple[str, ...]  # from the payload down to the model or its weights
    prefix: str  # that wrappers put before every name there
    paths: tuple[tuple[str, ...], ...]  # of each new module
    packed: bytes  # the modules, or their state dicts, as a list in a zip of `torch.save`
    # further tensors to remove from a state dict; its new tensors have full names if `named`
    more: Removal = NONE_REMOVED
    named: bool = False
    taken: tuple[str, ...] = ()  # paths of modules beside others that are taken out

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return the beginnings of the names of all tensors of the old modules."""
        place = "".join(f"{key}." for key in self.keys) + self.prefix
        return tuple(f"{place}{path}." for paths in self.paths for path in paths)


class Mark(NamedTuple):
    """The identity of a tensor, without its bytes."""

    content: Hashable  # equal for two tensors if, and only if, bytes, shape and dtype are the same
    place: Hashable  # the file and offset of its bytes
    nbytes: int


@dataclass(frozen=True, slots=True)
class Records:
    """The records of modswap that are written into a file; empty for none."""

    recipe: str = ""  # as it was applied
    receipt: str = ""  # as JSON

    def named(self, recipe: str, receipt: str) -> dict[str, str]:
        """Return the records that are not empty, under the names that a format gives them."""
        return {name: t for name, t in ((recipe, self.recipe), (receipt, self.receipt)) if t}


class Rewriting(Protocol):
    """A prepared file: everything is decided, nothing is written yet."""

    @property
    def before(self) -> Mapping[str, Mark]:
        """Return every tensor of the old file."""

    @property
    def after(self) -> Mapping[str, Mark]:
        """Return every tensor of the new file."""

    @property
    def changes(self) -> Changes:
        """Return the tensors that change."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return notes for the report."""

    def write(self, out: Path, records: Records, *, checksums: bool) -> "Rewritten":
        """Write the new file over an empty one."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file that was written and read again."""

    sha256: str  # in hexadecimal
    # every tensor in it; a copied tensor has the mark of its original
    tensors: Mapping[str, Mark] = field(default_factory=dict)
    digest: str = ""  # as the receipt of a folder holds it; empty where the file has its own

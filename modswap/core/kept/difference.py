"""The result of `diff`: what two checkpoints share, and where they differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DIFFERENT = 1
Part = Literal["all", "structure", "values"]
Kind = Literal["weights", "optimizer", "other"]


@dataclass(frozen=True, slots=True)
class Side:
    """The name and the size of one of the two checkpoints."""

    file: str
    format: str
    tensors: int  # names, those of one tensor each counted
    nbytes: int  # of the tensors, each counted once


@dataclass(frozen=True, slots=True)
class Facts:
    """The dtype, the shape and the kind of a tensor, as its file gives them."""

    dtype: str
    shape: tuple[int, ...]
    kind: Kind = "weights"

    @property
    def words(self) -> str:
        """Return them as text: `float32 (64, 3, 7, 7)`."""
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True, slots=True)
class Spread:
    """The distances between the values of two tensors of one shape.

    Elements with a NaN or an infinity on either side count in `changed`, and in no distance, but an
    infinity beside another value makes `max_abs` infinite.

    Args:
        elements: How many each of the two has.
        changed: How many differ: in a bit, or in value where the dtypes differ.
        max_abs: The largest distance of two elements.
        relative: The norm of the distances divided by the norm of A; None where A is 0.
        cosine: The cosine of the angle between the two; None where one of them is 0.
        nan: How many are NaN in A, and in B.
        infinite: How many are infinite in A, and in B.
        in_float64: Whether dtypes differ, so that values were compared in float64.
    """

    elements: int
    changed: int
    max_abs: float
    relative: float | None
    cosine: float | None
    nan: tuple[int, int] = (0, 0)
    infinite: tuple[int, int] = (0, 0)
    in_float64: bool = False

    @property
    def share(self) -> float:
        """Return the share of the elements that differ."""
        return self.changed / self.elements if self.elements else 0.0


How = Literal["name", "content", "module", "shape"]


@dataclass(frozen=True, slots=True)
class TensorPair:
    """A tensor of A and the one of B that it is compared with.

    `how` they were found: by one name, by equal contents, by the module that moved, or by the
    shapes of all tensors around. `equal` is None where values were not compared; `spread` is None
    where they are equal, were not compared, or their bytes have no numbers that could be read.
    """

    a: str
    b: str
    how: How
    old: Facts
    new: Facts
    equal: bool | None = None
    spread: Spread | None = None

    @property
    def moved(self) -> bool:
        """Return whether its name changed."""
        return self.a != self.b


@dataclass(frozen=True, slots=True)
class Lone:
    """A tensor or module that only one side has; `what` are its facts, or its class.

    `same` is another name of the same tensor, which both sides have; empty where there is none.
    """

    name: str
    what: str
    kind: Kind = "weights"
    same: str = ""


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A module whose class, or whose path, is another one; an empty class is unknown."""

    a: str
    b: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class EntryChange:
    """A value that is no tensor and differs; None where a side lacks it.

    `kind` is `setting` for attributes of modules, `optimizer`, `metadata`, `container` for what
    only this format records, `version` for torch's numbers of layers, or `tie` for names
    that are one tensor on one side only.
    """

    name: str
    kind: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class DiffResult:
    """All that two checkpoints share, and where they differ.

    Args:
        a: The first.
        b: The second.
        part: What was compared.
        pairs: Tensors that are in both.
        removed: Tensors that only A has.
        added: Tensors that only B has.
        gone: Modules that only A has, with their classes.
        come: Modules that only B has.
        classes: Modules of both that changed their class or their path.
        entries: Other values that differ.
        compared_entries: How many other values were compared.
        headline: A sentence where the two have hardly anything in common, or are one file.
        notes: Anything else worth knowing, a sentence each.
        seconds: Wall time.
    """

    a: Side
    b: Side
    part: Part = "all"
    pairs: tuple[TensorPair, ...] = ()
    removed: tuple[Lone, ...] = ()
    added: tuple[Lone, ...] = ()
    gone: tuple[Lone, ...] = ()
    come: tuple[Lone, ...] = ()
    classes: tuple[ClassChange, ...] = ()
    entries: tuple[EntryChange, ...] = ()
    compared_entries: int = 0
    headline: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def moved(self) -> tuple[TensorPair, ...]:
        """Return the pairs whose names differ."""
        return tuple(pair for pair in self.pairs if pair.moved)

    @property
    def changed(self) -> tuple[TensorPair, ...]:
        """Return the pairs whose dtype, shape or values differ, as far as they were compared."""
        return tuple(pair for pair in self.pairs if self._is_changed(pair))

    def _is_changed(self, pair: TensorPair) -> bool:
        if self.part == "values":
            return pair.equal is False
        return pair.equal is False or pair.old != pair.new

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many differences there are of each kind that counts."""
        counts = {"changed": len(self.changed)}
        if self.part == "values":
            return counts
        return counts | {
            "added": len(self.added),
            "removed": len(self.removed),
            "moved": len(self.moved),
            "modules": len(self.gone) + len(self.come) + len(self.classes),
            "entries": len(self.entries),
        }

    @property
    def equal(self) -> bool:
        """Return whether nothing differs."""
        return not any(self.counts.values())

    @property
    def exit_code(self) -> int:
        """Return the code that the command ends with."""
        return 0 if self.equal else DIFFERENT

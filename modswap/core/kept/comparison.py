"""The result of `verify`: the parts of a checkpoint that were compared, and those that differ."""

from dataclasses import dataclass, field

from modswap.core.errors import ModswapError
from modswap.core.kept.outcome import Amount

DIFFERENT = 1


@dataclass(frozen=True, slots=True)
class Unequal:
    """A part of a checkpoint, or a whole file, with another checksum than the recorded one.

    Args:
        file: The file that it is in.
        kind: `tensor`, `record`, `part`, `header` or `file`.
        name: The name of the tensor, record or file.
        algorithm: `CRC-32` or `SHA-256`.
        expected: The recorded checksum in hexadecimal.
        found: The checksum of the bytes in hexadecimal.
        tensors: Names of the tensors in a record, separated by commas; empty where none are known.
    """

    file: str
    kind: str
    name: str
    algorithm: str
    expected: str
    found: str
    tensors: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `verify`, for reports.

    Args:
        checkpoint: The file as the user gave it.
        format: Name of the row of the table of formats; empty for an unknown format.
        parts: Tensors or records that were compared with their CRC-32.
        unknown: Number of tensors or records without a checksum.
        files: Files that were compared with a SHA-256; the bytes count no file twice.
        unequal: The parts that differ.
        notes: Anything else worth knowing, a sentence each.
        error: The error that stopped it, or None.
        seconds: Wall time.
    """

    checkpoint: str
    format: str = ""
    parts: Amount = field(default_factory=Amount)
    unknown: int = 0
    files: Amount = field(default_factory=Amount)
    unequal: tuple[Unequal, ...] = ()
    notes: tuple[str, ...] = ()
    error: ModswapError | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Return whether something was compared, and all of it is equal."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """Return the code that the command ends with."""
        if self.unequal:
            return DIFFERENT
        return 0 if self.error is None else self.error.code

"""Where bytes lie: in a file, or in memory."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes that are to be copied somewhere.

    Args:
        nbytes: How many.
        file: The file that holds them; None for memory.
        start: Where in the file they begin.
        data: The bytes themselves, where they are in memory.
        crc: Their CRC-32 as the file has it; None if it has none that could be relied on.
        name: What they are, for errors.
    """

    nbytes: int
    file: Path | None = None
    start: int = 0
    data: bytes | memoryview = field(default=b"", repr=False, compare=False)
    crc: int | None = None
    name: str = ""


def in_memory(data: bytes | memoryview, name: str = "") -> ByteRange:
    """Return bytes in memory as an extent."""
    return ByteRange(len(data), data=data, name=name)

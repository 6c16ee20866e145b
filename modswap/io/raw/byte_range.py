"""The place of bytes in a file or in memory."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes in a file or in memory."""

    nbytes: int
    file: Path | None = None  # None for memory
    start: int = 0  # the offset of the first byte in the file
    data: bytes | memoryview = field(default=b"", repr=False, compare=False)  # only in memory
    crc: int | None = None  # CRC-32 as stored in the file; None if there is none to rely on
    name: str = ""  # of the record or tensor, for errors
    kind: str = "record"  # or "tensor", for errors
    summed: bool = False  # whether its CRC-32 is wanted when it is copied


def in_memory(data: bytes | memoryview, name: str = "") -> ByteRange:
    """Return the range of bytes in memory."""
    return ByteRange(len(data), data=data, name=name)

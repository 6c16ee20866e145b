"""The place of bytes in a file or in memory."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes in a file or in memory.

    Args:
        nbytes: Their number.
        file: The file that holds them; None for memory.
        start: The offset of the first byte in the file.
        data: The bytes themselves, where they are in memory.
        crc: Their CRC-32 as stored in the file; None if there is none to rely on.
        name: The name of the record or tensor, for errors.
    """

    nbytes: int
    file: Path | None = None
    start: int = 0
    data: bytes | memoryview = field(default=b"", repr=False, compare=False)
    crc: int | None = None
    name: str = ""


def in_memory(data: bytes | memoryview, name: str = "") -> ByteRange:
    """Return the range of bytes in memory."""
    return ByteRange(len(data), data=data, name=name)

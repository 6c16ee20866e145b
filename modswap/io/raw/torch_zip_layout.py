"""The zip that `torch.save` writes: its records as extents, and laying out a new one."""

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import IO, cast

from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.copying import Sink

ALIGNMENT = 64  # bytes, as torch has it
PAGE = 4096  # bytes; file systems share blocks that begin at such places in both files
_LOCAL, _CENTRAL = struct.Struct("<IHHHHHIIIHH"), struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END_64, _LOCATOR = struct.Struct("<IQHHIIQQQQ"), struct.Struct("<IIQI")
_FULL_32, _FULL_16 = 0xFFFFFFFF, 0xFFFF
_UTF_8 = 0x800
_FIRST_DAY = 0x21  # 1 January 1980: the same records give the same bytes


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip of `torch.save`.

    Args:
        root: The folder inside the zip that holds everything.
        records: Where each record lies, by its name below the root, in the order of the zip.
    """

    root: str
    records: Mapping[str, ByteRange]


def read_archive(source: Path | bytes) -> Archive:
    """Return where the records of a torch zip lie.

    Args:
        source: A file, or the zip itself; its directory was looked at already.
    """
    if isinstance(source, bytes):
        return _archive(BytesIO(source), None, memoryview(source))[0]
    with source.open("rb") as stream:
        return _archive(stream, source, memoryview(b""))[0]


class Window(RawIOBase):
    """A part of a file, read as if it were one.

    Args:
        stream: The file.
        start: Where the part begins.
        nbytes: How long it is.
    """

    def __init__(self, stream: IO[bytes], start: int, nbytes: int) -> None:
        super().__init__()
        self.stream = stream
        self.start = start
        self.nbytes = nbytes
        self.place = 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Return where it is read next."""
        return self.place

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set where it is read next."""
        self.place = max(0, offset + (0, self.place, self.nbytes)[whence])
        return self.place

    def read(self, size: int | None = -1) -> bytes:
        """Return the bytes at that place, so many or as many as are left."""
        left = max(0, self.nbytes - self.place)
        count = left if size is None or size < 0 else min(size, left)
        self.stream.seek(self.start + self.place)
        data = self.stream.read(count)
        self.place += len(data)
        return data


def read_inner_archive(file: Path, start: int, nbytes: int) -> Archive:
    """Return where the records of a torch zip lie that is a part of a file.

    Args:
        file: The file.
        start: Where the zip begins.
        nbytes: How long it is.

    Raises:
        ValueError: If it is damaged, or its records are compressed, lie outside it, or share a
            name.
    """
    with file.open("rb") as stream:
        # zipfile asks for what a stream of this kind has
        window = cast("IO[bytes]", Window(stream, start, nbytes))
        try:
            found, entries = _archive(window, file, memoryview(b""))
        except (zipfile.BadZipFile, NotImplementedError, EOFError, struct.error) as error:
            raise ValueError(str(error)) from None
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    order = sorted(found.records.values(), key=lambda extent: extent.start)
    starts = [*(extent.start for extent in order[1:]), nbytes]
    apart = all(e.start + e.nbytes <= s for e, s in zip(order, starts, strict=False))
    if len(found.records) < len(entries) or not (stored and apart):
        raise ValueError("it is no zip as torch.save writes it")
    records = {
        name: replace(extent, start=start + extent.start) for name, extent in found.records.items()
    }
    return Archive(found.root, records)


def _archive(
    stream: IO[bytes], file: Path | None, held: memoryview
) -> tuple[Archive, list[zipfile.ZipInfo]]:
    records = {}
    root = ""
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
    for entry in entries:
        root, _, name = entry.filename.partition("/")
        stream.seek(entry.header_offset)
        header = stream.read(_LOCAL.size).ljust(_LOCAL.size, b"\0")
        *_, named, extra = _LOCAL.unpack(header)
        start = entry.header_offset + _LOCAL.size + named + extra
        size = entry.file_size
        data = held[start : start + size] if file is None else b""
        # torch can be told to write no checksums; nothing at all has the checksum 0
        crc = entry.CRC if entry.CRC or not size else None
        records[name] = ByteRange(size, file, start, data, crc, entry.filename)
    return Archive(root, records), entries


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record of a zip that is to be written."""

    name: bytes
    extent: ByteRange
    crc: int
    start: int  # of its header

    @property
    def header(self) -> bytes:
        """Return what precedes the bytes, which begin at an aligned place."""
        size = self.extent.nbytes
        large = size >= _FULL_32
        extra = struct.pack("<HHQQ", 1, 16, size, size) if large else b""
        shown = _FULL_32 if large else size
        at = self.start + _LOCAL.size + len(self.name) + len(extra) + 4
        padding = -at % _alignment(self.extent)
        extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        fixed = (0x04034B50, 45 if large else 20, _UTF_8, 0, 0, _FIRST_DAY, self.crc)
        return _LOCAL.pack(*fixed, shown, shown, len(self.name), len(extra)) + self.name + extra

    @property
    def listed(self) -> bytes:
        """Return its line in the directory."""
        size, start = self.extent.nbytes, self.start
        wide = [n for n in (size, size, start) if n >= _FULL_32]
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        version = 45 if wide else 20
        fixed = (0x02014B50, version, version, _UTF_8, 0, 0, _FIRST_DAY, self.crc)
        shown = min(size, _FULL_32)
        lengths = (len(self.name), len(extra), 0, 0, 0, 0, min(start, _FULL_32))
        return _CENTRAL.pack(*fixed, shown, shown, *lengths) + self.name + extra


def _alignment(extent: ByteRange) -> int:
    paged = extent.file is not None and extent.nbytes >= PAGE and extent.start % PAGE == 0
    return PAGE if paged else ALIGNMENT


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything in a new zip will lie.

    Args:
        entries: Its records.
        directory: What follows them.
        nbytes: The size of the whole.
    """

    entries: tuple[_Entry, ...]
    directory: bytes
    nbytes: int

    def write(self, sink: Sink) -> None:
        """Write the zip."""
        for entry in self.entries:
            sink.write(entry.header)
            sink.copy(entry.extent)
        sink.write(self.directory)


def lay_out(root: str, records: Mapping[str, ByteRange]) -> Layout:
    """Return where records will lie in a zip.

    Args:
        root: The folder inside the zip.
        records: By their name below the root.
    """
    entries = tuple(_entries(root, records))
    last = entries[-1]
    end = last.start + len(last.header) + last.extent.nbytes
    directory = b"".join(entry.listed for entry in entries)
    directory += _closing(len(entries), len(directory), end)
    return Layout(entries, directory, end + len(directory))


def _entries(root: str, records: Mapping[str, ByteRange]) -> Iterator[_Entry]:
    start = 0
    for name, extent in records.items():
        crc = zlib.crc32(extent.data) if extent.file is None else extent.crc or 0
        entry = _Entry(f"{root}/{name}".encode("utf-8", "surrogateescape"), extent, crc, start)
        yield entry
        start += len(entry.header) + extent.nbytes


def _closing(count: int, nbytes: int, start: int) -> bytes:
    """Return what ends a zip whose directory has `count` lines and begins at `start`."""
    shown = min(count, _FULL_16)
    end = _END.pack(0x06054B50, 0, 0, shown, shown, min(nbytes, _FULL_32), min(start, _FULL_32), 0)
    if count < _FULL_16 and start + nbytes < _FULL_32:
        return end
    wide = _END_64.pack(0x06064B50, 44, 45, 45, 0, 0, count, count, nbytes, start)
    return wide + _LOCATOR.pack(0x07064B50, 0, start + nbytes, 1) + end

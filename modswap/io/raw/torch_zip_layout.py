"""Find the records in a zip of `torch.save`, and lay out a new zip."""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, cast

from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.copying import Sink
from modswap.io.recognise.look import Look
from modswap.io.recognise.zip_headers import first_flaw

ALIGNMENT_BYTES = 64  # as torch aligns records
PAGE_BYTES = 4096  # file systems share blocks that are aligned so in both files
_LOCAL, _CENTRAL = struct.Struct("<IHHHHHIIIHH"), struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END_64, _LOCATOR = struct.Struct("<IQHHIIQQQQ"), struct.Struct("<IIQI")
_FULL_32, _FULL_16 = 0xFFFFFFFF, 0xFFFF
_UTF_8 = 0x800
_FIRST_DAY = 0x21  # 1 January 1980: the same records give the same bytes


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip of `torch.save`."""

    root: str  # the folder inside the zip that holds everything
    records: Mapping[str, ByteRange]  # by their names below the root, in the order of the zip


def read_archive(source: Path | bytes) -> Archive:
    """Return the records of a torch zip, a file or its bytes; its directory was checked before."""
    if isinstance(source, bytes):
        return _archive(BytesIO(source), None, memoryview(source))[0]
    with source.open("rb") as stream:
        return _archive(stream, source, memoryview(b""))[0]


def read_stored(look: Look) -> dict[str, ByteRange]:
    """Return every entry of a zip by its whole name, each with the CRC-32 of the directory.

    Raises:
        CheckpointError: If an entry is compressed.
    """
    with look.file.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        records = {}
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                what = f"{entry.filename!r:.80} is compressed inside it"
                raise look.error(what, "save it again where it was made")
            records[entry.filename] = replace(_held(stream, entry, look.file), crc=entry.CRC)
    return records


@dataclass(slots=True)
class Window:
    """A part of a file, as a stream with the methods that zipfile calls."""

    stream: IO[bytes]
    start: int
    nbytes: int
    place: int = 0

    def tell(self) -> int:
        """Return the position of the next read."""
        return self.place

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position of the next read, and return it."""
        self.place = max(0, offset + (0, self.place, self.nbytes)[whence])
        return self.place

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes, or all that are left."""
        left = max(0, self.nbytes - self.place)
        count = left if size is None or size < 0 else min(size, left)
        self.stream.seek(self.start + self.place)
        data = self.stream.read(count)
        self.place += len(data)
        return data


def read_inner_archive(file: Path, start: int, nbytes: int) -> Archive:
    """Return the records of a torch zip that is a part of a file.

    Raises:
        ValueError: If it is damaged, or its records are compressed, share a name, or are not one
            behind the other as its directory lists them.
    """
    with file.open("rb") as stream:
        window = cast("IO[bytes]", Window(stream, start, nbytes))
        try:
            found, entries, directory = _archive(window, file, memoryview(b""))
        except (zipfile.BadZipFile, NotImplementedError, EOFError, struct.error) as error:
            raise ValueError(str(error)) from None
        _, flaw = first_flaw(window, directory, entries)
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if flaw or not stored or len(found.records) < len(entries):
        raise ValueError("it is no zip as torch.save writes it")
    records = {n: replace(held, start=start + held.start) for n, held in found.records.items()}
    return Archive(found.root, records)


def _archive(
    stream: IO[bytes], file: Path | None, held: memoryview
) -> tuple[Archive, list[zipfile.ZipInfo], int]:
    """Return an archive, its entries, and the offset of its directory."""
    records = {}
    root = ""
    with zipfile.ZipFile(stream) as archive:
        entries, directory = archive.infolist(), archive.start_dir
    for entry in entries:
        root, _, name = entry.filename.partition("/")
        found = _held(stream, entry, file)
        end = found.start + found.nbytes
        records[name] = found if file else replace(found, data=held[found.start : end])
    return Archive(root, records), entries, directory


def _held(stream: IO[bytes], entry: zipfile.ZipInfo, file: Path | None) -> ByteRange:
    """Return the place of an entry's bytes."""
    stream.seek(entry.header_offset)
    header = stream.read(_LOCAL.size).ljust(_LOCAL.size, b"\0")
    *_, named, extra = _LOCAL.unpack(header)
    start = entry.header_offset + _LOCAL.size + named + extra
    # torch has an option to write no checksums; no bytes at all have the checksum 0
    crc = entry.CRC if entry.CRC or not entry.file_size else None
    return ByteRange(entry.file_size, file, start, crc=crc, name=entry.filename)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record of a new zip."""

    name: bytes
    extent: ByteRange
    crc: int
    start: int  # offset of the header

    @property
    def header(self) -> bytes:
        """Return the header before the bytes; its padding aligns them."""
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
        """Return its entry in the directory."""
        size, start = self.extent.nbytes, self.start
        wide = [n for n in (size, size, start) if n >= _FULL_32]
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        version = 45 if wide else 20
        fixed = (0x02014B50, version, version, _UTF_8, 0, 0, _FIRST_DAY, self.crc)
        shown = min(size, _FULL_32)
        lengths = (len(self.name), len(extra), 0, 0, 0, 0, min(start, _FULL_32))
        return _CENTRAL.pack(*fixed, shown, shown, *lengths) + self.name + extra


def _alignment(extent: ByteRange) -> int:
    whole = extent.file is not None and extent.nbytes >= PAGE_BYTES
    return PAGE_BYTES if whole and extent.start % PAGE_BYTES == 0 else ALIGNMENT_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """The records of a new zip, the directory after them, and the size of the zip."""

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
    """Return the layout of a new zip with records by their names below its folder `root`."""
    entries: list[_Entry] = []
    end = 0
    for name, extent in records.items():
        crc = zlib.crc32(extent.data) if extent.file is None else extent.crc or 0
        entry = _Entry(f"{root}/{name}".encode("utf-8", "surrogateescape"), extent, crc, end)
        entries.append(entry)
        end += len(entry.header) + extent.nbytes
    directory = b"".join(entry.listed for entry in entries)
    directory += _closing(len(entries), len(directory), end)
    return Layout(tuple(entries), directory, end + len(directory))


def _closing(count: int, nbytes: int, start: int) -> bytes:
    """Return the end of a zip whose directory has `count` entries and begins at `start`."""
    shown = min(count, _FULL_16)
    end = _END.pack(0x06054B50, 0, 0, shown, shown, min(nbytes, _FULL_32), min(start, _FULL_32), 0)
    if count < _FULL_16 and start + nbytes < _FULL_32:
        return end
    wide = _END_64.pack(0x06064B50, 44, 45, 45, 0, 0, count, count, nbytes, start)
    return wide + _LOCATOR.pack(0x07064B50, 0, start + nbytes, 1) + end

"""Read a file of `torch.save` as data, with the places of its records."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modswap.io.pickled.costs import refuse_costs
from modswap.io.pickled.data import (
    MAX_PICKLE_BYTES,
    CostlyError,
    Name,
    Storage,
    UnreadableError,
    read_pickle,
    read_pickles,
)
from modswap.io.pickled.storages import DATA
from modswap.io.pickled.walk import everything
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.torch_zip_layout import Archive, read_archive
from modswap.io.recognise.look import Look

_COUNT_BYTES = 8
PICKLE = "data.pkl"


@dataclass(frozen=True, slots=True)
class Opened:
    """A file of `torch.save`, read as data."""

    look: Look
    payload: Any  # a rewrite changes it
    names: tuple[Name, ...]  # every one in its pickle
    archive: Archive  # the places of its records
    protocol: int = 2  # of its pickle


def open_torch(look: Look) -> Opened:
    """Return a file of `torch.save`, read as data; an old one as the zip that it is written as.

    Raises:
        UnreadableError: If it cannot be read as data.
    """
    return _open_zip(look) if look.names else _open_legacy(look)


def _open_zip(look: Look) -> Opened:
    archive = read_archive(look.file)
    order = archive.records.get("byteorder")
    if order is not None and content(order) != b"little":
        raise UnreadableError("its bytes are in the order of another kind of machine")
    if archive.records[PICKLE].nbytes > MAX_PICKLE_BYTES:
        raise CostlyError(f"it has over {MAX_PICKLE_BYTES:,} bytes")
    data = content(archive.records[PICKLE])
    payload, names = read_pickle(data)
    refuse_costs(payload, look)
    protocol = data[1] if data[:1] == b"\x80" else 2
    return Opened(look, payload, names, archive, protocol)


def content(held: ByteRange) -> bytes:
    """Return the bytes of a range."""
    if held.file is None:
        return bytes(held.data)
    with held.file.open("rb") as stream:
        stream.seek(held.start)
        return stream.read(held.nbytes)


def _open_legacy(look: Look) -> Opened:
    """Return a file from before torch 1.6 as the archive that it will be written as."""
    with look.file.open("rb") as stream:
        (_, _, system, payload, keys), names = read_pickles(stream, 5)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise UnreadableError("its bytes are in the order of another kind of machine")
        start = stream.tell()
    refuse_costs(payload, look)
    found = (value for value in everything(payload) if isinstance(value, Storage))
    itemsizes = {storage.key: storage.itemsize for storage in found}
    records = dict(_records(look, start, keys, itemsizes))
    order, version = in_memory(b"little", "byteorder"), in_memory(b"3\n", "version")
    archive = Archive("archive", {"byteorder": order, **records, "version": version})
    return Opened(look, payload, names, archive)


def _records(
    look: Look, start: int, keys: Any, itemsizes: Mapping[str, int]
) -> Iterator[tuple[str, ByteRange]]:
    """Yield the storages after the pickles of an old file: a count of items, then the items."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UnreadableError("it does not say which storages follow")
    with look.file.open("rb") as stream:
        for key in keys:
            stream.seek(start)
            head = stream.read(_COUNT_BYTES)
            nbytes = int.from_bytes(head, "little", signed=True) * itemsizes.get(key, 1)
            start += _COUNT_BYTES
            if nbytes < 0 or start + nbytes > look.size:
                raise look.error("it is cut short")
            yield f"{DATA}{key}", ByteRange(nbytes, look.file, start, name=f"storage {key}")
            start += nbytes

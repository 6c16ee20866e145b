"""Rewrite a safetensors file: write a new header, and copy its tensors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modswap.core.errors import CheckpointError
from modswap.core.kept.ledger import Changes
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.copying import Sink
from modswap.io.recognise.look import Look, header_of_safetensors
from modswap.io.rewriting import Mark, Records, Rewritten

RECIPE, RECEIPT = "modswap.recipe", "modswap.receipt"
METADATA = "__metadata__"
OTHER = (RECIPE, RECEIPT, "format")  # metadata that are never ties
# bytes of an item, which readers that map a file want tensors to be aligned to
ITEMS = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2,
          "I16": 2, "U16": 2}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a safetensors file: its dtype as the header has it, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    extent: ByteRange


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a safetensors file, its tensors in the order of their bytes."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]

    @property
    def ties(self) -> dict[str, str]:
        """Return further names of tensors, with the names that they are stored under."""
        return {
            alias: name
            for alias, name in self.metadata.items()
            if alias not in self.tensors and name in self.tensors and alias not in OTHER
        }


def read_header(look: Look) -> Header:
    """Return the header of a safetensors file that its own reader has accepted."""
    length = int.from_bytes(look.head[:8], "little")
    return _header(header_of_safetensors(look), 8 + length, look.file)


def _header(entries: Mapping[str, Any], start: int, file: Path) -> Header:
    tensors = {
        name: StoredTensor(
            entry["dtype"],
            tuple(entry["shape"]),
            ByteRange(
                entry["data_offsets"][1] - entry["data_offsets"][0],
                file,
                start + entry["data_offsets"][0],
                name=name,
            ),
        )
        for name, entry in entries.items()
        if name != METADATA
    }
    ordered = sorted(tensors.items(), key=lambda item: item[1].extent.start)
    return Header(dict(ordered), dict(entries.get(METADATA) or {}))


@dataclass(frozen=True, slots=True)
class Added:
    """A new tensor, in the header's words; `owner` keeps its bytes in memory."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview
    owner: object = None

    @property
    def stored(self) -> StoredTensor:
        """Return it as a tensor of a file."""
        return StoredTensor(self.dtype, self.shape, in_memory(self.data))


class NamedRewriting:
    """A safetensors file that is to be written with other tensors in it.

    The names that are removed begin with one of `prefixes`, each of which ends in a dot; `ties` are
    further names of the new tensors.
    """

    def __init__(
        self,
        look: Look,
        prefixes: Sequence[str],
        added: Mapping[str, Added],
        ties: Mapping[str, str],
    ) -> None:
        self.look = look
        old = read_header(look)
        gone = tuple(prefixes)
        new = {name: tensor.stored for name, tensor in added.items()}
        self.added = added  # for the memory that they own
        self.header = _merged(old, gone, new, ties)
        self.before = dict(marks(old))
        self.after = dict(marks(self.header))
        self.changes = Changes(gone)
        self.notes: tuple[str, ...] = ()

    def write(self, out: Path, records: Records, *, checksums: bool) -> Rewritten:
        """Write the file into an empty one, and read its header again.

        The format has no checksums, so all that is copied is compared.
        """
        del checksums
        kept = {n: text for n, text in self.header.metadata.items() if n not in {RECIPE, RECEIPT}}
        metadata = kept | records.named(RECIPE, RECEIPT)
        written = Header(self.header.tensors, dict(sorted(metadata.items())))
        sha256, copies = write_named(written, out)
        with out.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            found = _header(json.loads(stream.read(length)), 8 + length, out)
        return Rewritten(sha256, dict(marks(found, copies)))


def write_named(header: Header, out: Path) -> tuple[str, dict[int, ByteRange]]:
    """Write a safetensors file into an empty one.

    Returns:
        Its SHA-256 in hexadecimal, and the copied extents, by the place of each copy.
    """
    head = _encoded(header)
    nbytes = sum(tensor.extent.nbytes for tensor in header.tensors.values())
    with Sink(out, len(head) + nbytes) as sink:
        sink.write(head)
        for tensor in header.tensors.values():
            sink.copy(tensor.extent)
        sha256 = sink.finish()
    found = {arrival.start: arrival.extent for arrival in sink.arrivals if arrival.extent.nbytes}
    return sha256, found


def _merged(
    old: Header, gone: tuple[str, ...], new: Mapping[str, StoredTensor], ties: Mapping[str, str]
) -> Header:
    """Return the header with the new tensors in place of the removed ones."""
    names = dict(old.ties)
    left = {alias: name for alias, name in names.items() if not alias.startswith(gone)}
    # the first other name of a removed tensor takes its place
    others_first = sorted(left.items(), reverse=True)  # metadata have no order
    heirs = {name: alias for alias, name in others_first if name.startswith(gone)}
    kept = {
        heirs.get(name, name): tensor
        for name, tensor in old.tensors.items()
        if not name.startswith(gone) or name in heirs
    }
    left = {a: heirs.get(n, n) for a, n in left.items() if a not in kept}
    others = {name: text for name, text in old.metadata.items() if name not in names}
    return Header(dict(_aligned(kept, new)), {**others, **left, **ties})


def _aligned(
    kept: Mapping[str, StoredTensor], new: Mapping[str, StoredTensor]
) -> Iterator[tuple[str, StoredTensor]]:
    """Yield all tensors, the new ones before the first one whose items are smaller than theirs."""
    waiting = sorted(new.items(), key=lambda item: -ITEMS.get(item[1].dtype, 1))
    for name, tensor in kept.items():
        while waiting and ITEMS.get(waiting[0][1].dtype, 1) > ITEMS.get(tensor.dtype, 1):
            yield waiting.pop(0)
        yield name, tensor
    yield from waiting


def _encoded(header: Header) -> bytes:
    """Return the header as it is written: its length, and JSON that ends at a multiple of 8."""
    entries: dict[str, Any] = {METADATA: dict(header.metadata)} if header.metadata else {}
    position = 0
    for name, tensor in header.tensors.items():
        end = position + tensor.extent.nbytes
        offsets = [position, end]
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
        position = end
    try:
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        what = f"safetensors cannot hold a name in it: {error}"
        raise CheckpointError(what, fix="name OUT.pt instead") from None
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def marks(
    header: Header, copies: Mapping[int, ByteRange] | None = None
) -> Iterator[tuple[str, Mark]]:
    """Yield a mark for every tensor, under each of its names."""
    stored = {}
    for name, tensor in header.tensors.items():
        extent = (copies or {}).get(tensor.extent.start, tensor.extent)
        start = extent.start if extent.file else name
        place = (extent.file, start, extent.nbytes) if extent.nbytes else None
        stored[name] = Mark((tensor.dtype, tensor.shape, place), place, extent.nbytes)
    yield from stored.items()
    yield from ((alias, stored[name]) for alias, name in header.ties.items())

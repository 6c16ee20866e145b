"""Rewrite a safetensors file: write a new header, and copy its tensors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modswap.core.kept.ledger import Changes
from modswap.io.formats.safetensors.digests import digest, sealed, summed, with_known
from modswap.io.formats.safetensors.header import (
    ITEMS,
    RECEIPT,
    RECIPE,
    Header,
    StoredTensor,
    encoded,
    header_of,
    read_header,
)
from modswap.io.raw.byte_range import ByteRange, in_memory
from modswap.io.raw.checksums import NONE, Checksums
from modswap.io.raw.copying import Sink
from modswap.io.recognise.look import Look
from modswap.io.rewriting import Mark, Records, Removal, Rewritten


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

    `ties` are further names of the new tensors, `added`; `known` has the checksums of the old ones.
    """

    def __init__(
        self,
        look: Look,
        removal: Removal,
        added: Mapping[str, Added],
        ties: Mapping[str, str],
        known: Checksums = NONE,
    ) -> None:
        self.look = look
        old = _with_heirs(with_known(read_header(look), known), removal)
        new = {name: tensor.stored for name, tensor in added.items()}
        self.added = added  # for the memory that they own
        self.header = _merged(old, removal, new, ties)
        self.before = dict(marks(old))
        self.after = dict(marks(self.header))
        self.changes = Changes(removal.prefixes, names={*removal.names, *added, *ties})
        self.notes: tuple[str, ...] = ()

    def write(self, out: Path, records: Records, *, checksums: bool) -> Rewritten:
        """Write the file into an empty one, and read its header again.

        Tensors with known checksums are compared with them, and all others with their source.
        """
        kept = {n: text for n, text in self.header.metadata.items() if n not in {RECIPE, RECEIPT}}
        metadata = kept | records.named(RECIPE, RECEIPT)
        header = sealed(Header(self.header.tensors, dict(sorted(metadata.items()))))
        sink = write_named(header, out, checksums=checksums)
        with out.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            found = header_of(json.loads(stream.read(length)), 8 + length, out)
        copies = {one.start: one.extent for one in sink.arrivals if one.extent.nbytes}
        digests = "" if records.receipt else digest(_with_sums(header, sink.sums))
        return Rewritten(sink.sha256, dict(marks(found, copies)), digests)

    def copy(self, out: Path, *, checksums: bool) -> Rewritten:
        """Copy the file, in which nothing changes, byte for byte into an empty one."""
        start = min(tensor.extent.start for tensor in self.header.tensors.values())
        with Sink(out, self.look.size, checksums=checksums) as sink:
            sink.copy(ByteRange(start, self.look.file, name=self.look.file.name))
            for tensor in self.header.tensors.values():
                sink.copy(replace(tensor.extent, summed=True))
            sink.finish()
        return Rewritten(sink.sha256, self.before, digest(_with_sums(self.header, sink.sums[1:])))


def write_named(header: Header, out: Path, *, checksums: bool = True) -> Sink:
    """Write a safetensors file into an empty one; return the finished sink."""
    head = encoded(header)
    nbytes = sum(tensor.extent.nbytes for tensor in header.tensors.values())
    with Sink(out, len(head) + nbytes, checksums=checksums) as sink:
        sink.write(head)
        for tensor in header.tensors.values():
            held = tensor.extent
            sink.copy(replace(held, summed=True) if held.crc is None else held)
        sink.finish()
    return sink


def _with_sums(header: Header, sums: Sequence[int]) -> Header:
    """Return a header with the CRC-32 of its tensors; `sums` are those of the copied ones."""
    left = iter(sums)
    tensors = {
        name: replace(tensor, extent=replace(tensor.extent, crc=next(left)))
        if tensor.extent.file
        else tensor
        for name, tensor in header.tensors.items()
    }
    return Header(summed(tensors), header.metadata)


def _with_heirs(header: Header, removal: Removal) -> Header:
    """Return a header with the names that the file leaves out of tensors whose own name goes."""
    heirs = {alias: name for alias, name in removal.heirs.items() if name in header.tensors}
    return Header(header.tensors, {**header.metadata, **heirs}) if heirs else header


def _merged(
    old: Header, gone: Removal, new: Mapping[str, StoredTensor], ties: Mapping[str, str]
) -> Header:
    """Return the header with the new tensors in place of the removed ones."""
    names = dict(old.ties)
    left = {alias: name for alias, name in names.items() if alias not in gone}
    # the first other name of a removed tensor takes its place
    others_first = sorted(left.items(), reverse=True)  # metadata have no order
    heirs = {name: alias for alias, name in others_first if name in gone}
    kept = {
        heirs.get(name, name): tensor
        for name, tensor in old.tensors.items()
        if name not in gone or name in heirs
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

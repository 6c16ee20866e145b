"""Rewrite a folder of weights: write the shards that change, and copy every other file."""

import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from modswap.core.kept.ledger import Changes
from modswap.core.kept.receipt import with_digests
from modswap.io.formats.folder.shards import Shards
from modswap.io.formats.safetensors.rewrite import NamedRewriting
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.copying import Sink
from modswap.io.raw.folder_files import RECORDS, as_json, entries, put_links, put_texts
from modswap.io.rewriting import Mark, Records, Rewriting, Rewritten


class FolderRewriting:
    """A folder of weights that is to be written with other tensors in it.

    Each of its files of weights is prepared with the changes in it.

    Raises:
        CheckpointError: If the folder holds what is not copied, as a link that leaves it.
    """

    def __init__(self, shards: Shards, files: Mapping[str, Rewriting], changes: Changes) -> None:
        self.shards = shards
        self.entries = entries(shards.folder)
        self.files = files
        self.before = {name: mark for one in files.values() for name, mark in one.before.items()}
        self.after = {name: mark for one in files.values() for name, mark in one.after.items()}
        self.changes = changes
        self.notes: tuple[str, ...] = ()

    def write(self, out: Path, records: Records, *, checksums: bool) -> Rewritten:
        """Write the folder into an empty one, and read its weights again."""
        digests: dict[str, str] = {}
        tensors: dict[str, Mark] = {}
        sums: dict[str, str] = {}  # for the receipt
        for entry in self.entries:
            # the file of a link has an entry of its own
            if entry.target or entry.name in {self.shards.index_home, RECORDS}:
                continue
            name = self.shards.homes.get(entry.name, "")
            done = self._put(
                entry.place, self.files.get(name), out / entry.name, checksums=checksums
            )
            digests[entry.name] = done.sha256
            tensors |= done.tensors
            sums |= {name: done.digest} if done.digest else {}
        texts = {}
        if self.shards.index:
            data = texts[self.shards.index_home] = as_json(self._index())
            sums |= {self.shards.index: f"{zlib.crc32(data):08x}"} if sums else {}
        if records.receipt or records.recipe:
            texts[RECORDS] = as_json(asdict(_with_digests(records, sums)))
        sha256 = put_texts(out, texts, digests)
        put_links(out, (entry for entry in self.entries if entry.name != RECORDS))
        return Rewritten(sha256, tensors)

    def _put(
        self, source: Path, rewriting: Rewriting | None, file: Path, *, checksums: bool
    ) -> Rewritten:
        """Write one file of the folder, changed or copied."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if rewriting is None:
            return Rewritten(_copied(source, file))
        if rewriting.before != rewriting.after:
            return rewriting.write(file, Records(), checksums=checksums)
        if isinstance(rewriting, NamedRewriting):
            return rewriting.copy(file, checksums=checksums)
        return Rewritten(_copied(source, file), rewriting.before)

    def _index(self) -> dict[str, object]:
        """Return the index of the new shards."""
        places = {name: file for file, one in self.files.items() for name in one.after}
        kept = [name for name in self.shards.places if name in places]
        order = [*kept, *(name for name in places if name not in self.shards.places)]
        total = sum({mark.place: mark.nbytes for mark in self.after.values()}.values())
        metadata = self.shards.head.get("metadata")
        known = dict(metadata) if isinstance(metadata, Mapping) else {}
        head = {**self.shards.head, "metadata": {**known, "total_size": total}}
        return {**head, "weight_map": {name: places[name] for name in order}}


def _with_digests(records: Records, sums: Mapping[str, str]) -> Records:
    """Return the records with the digests of the safetensors files and of the index."""
    if not records.receipt or not sums:
        return records
    return replace(records, receipt=with_digests(records.receipt, sums))


def _copied(source: Path, out: Path) -> str:
    """Copy a whole regular file, compared on the way; return its SHA-256."""
    nbytes = source.stat().st_size
    with Sink(out, nbytes) as sink:
        sink.copy(ByteRange(nbytes, source, name=source.name))
        return sink.finish()

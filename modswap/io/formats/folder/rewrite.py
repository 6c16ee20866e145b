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
from modswap.io.raw.folder_files import RECORDS, as_json, other_files, put_texts
from modswap.io.rewriting import Mark, Records, Rewriting, Rewritten


class FolderRewriting:
    """A folder of weights that is to be written with other tensors in it.

    Each of its files of weights is prepared with the changes in it; the names that are removed
    begin with one of `prefixes`, each of which ends in a dot.
    """

    def __init__(
        self, shards: Shards, files: Mapping[str, Rewriting], prefixes: tuple[str, ...]
    ) -> None:
        self.shards = shards
        self.files = files
        self.before = {name: mark for one in files.values() for name, mark in one.before.items()}
        self.after = {name: mark for one in files.values() for name, mark in one.after.items()}
        self.changes = Changes(prefixes)
        self.notes: tuple[str, ...] = ()

    def write(self, out: Path, records: Records, *, checksums: bool) -> Rewritten:
        """Write the folder into an empty one, and read its weights again."""
        digests: dict[str, str] = {}
        tensors: dict[str, Mark] = {}
        sums: dict[str, str] = {}
        for file in other_files(self.shards.folder):
            name = str(file)
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            rewriting = self.files.get(name)
            if rewriting is not None and rewriting.before != rewriting.after:
                done = rewriting.write(out / file, Records(), checksums=checksums)
                digests[name] = done.sha256
                tensors |= done.tensors
                sums |= {name: done.digest} if done.digest else {}
            elif isinstance(rewriting, NamedRewriting):
                done = rewriting.copy(out / file, checksums=checksums)
                digests[name] = done.sha256
                tensors |= done.tensors
                sums[name] = done.digest
            elif name not in {self.shards.index, RECORDS}:
                digests[name] = _copied(self.shards.folder / file, out / file)
                tensors |= rewriting.before if rewriting is not None else {}
        texts = {self.shards.index: as_json(self._index())} if self.shards.index else {}
        index = {name: f"{zlib.crc32(data):08x}" for name, data in texts.items()}
        texts[RECORDS] = as_json(asdict(_with_digests(records, sums, index)))
        return Rewritten(put_texts(out, texts, digests), tensors)

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


def _with_digests(records: Records, sums: Mapping[str, str], index: Mapping[str, str]) -> Records:
    """Return the records with the digests of the safetensors files and of the index."""
    if not records.receipt or not sums:
        return records
    return replace(records, receipt=with_digests(records.receipt, {**sums, **index}))


def _copied(source: Path, out: Path) -> str:
    """Copy a whole file, compared on the way; return its SHA-256."""
    nbytes = source.stat().st_size
    with Sink(out, nbytes) as sink:
        sink.copy(ByteRange(nbytes, source.resolve(), name=source.name))
        return sink.finish()

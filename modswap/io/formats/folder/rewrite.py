"""Rewrite a folder of weights: write the shards that change, and copy every other file."""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from modswap.core.kept.ledger import Changes
from modswap.io.formats.folder.shards import Shards
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.copying import Sink
from modswap.io.raw.folder_files import RECORDS, other_files
from modswap.io.rewriting import Mark, Records, Rewriting, Rewritten

Prepare = Callable[[str], Rewriting]


class FolderRewriting:
    """A folder of weights that is to be written with other tensors in it.

    Args:
        shards: The folder as it is.
        prepare: Prepares one of its files of weights, by its name, with its changes.
        prefixes: Beginnings of the names that go, each ending in a dot.
    """

    def __init__(self, shards: Shards, prepare: Prepare, prefixes: tuple[str, ...]) -> None:
        self.shards = shards
        self.files = {name: prepare(name) for name in shards.looks}
        self.before = _together(self.files, "before")
        self.after = _together(self.files, "after")
        self.changes = Changes(prefixes)
        self.notes: tuple[str, ...] = ()

    def write(self, out: Path, records: Records, *, checksums: bool) -> Rewritten:
        """Write the folder into an empty one, and read its weights again.

        Args:
            out: The empty folder.
            records: The recipe and the receipt.
            checksums: Whether copies are compared with the checksums of their sources.

        Raises:
            CheckpointError: If a record is damaged.
        """
        digests: dict[str, str] = {}
        tensors: dict[str, Mark] = {}
        for file in other_files(self.shards.folder):
            name = str(file)
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            rewriting = self.files.get(name)
            if rewriting is not None and rewriting.before != rewriting.after:
                done = rewriting.write(out / file, Records(), checksums=checksums)
                digests[name] = done.sha256
                tensors |= done.tensors
            elif name not in {self.shards.index, RECORDS}:
                digests[name] = _copied(self.shards.folder / file, out / file)
                tensors |= rewriting.before if rewriting is not None else {}
        texts: dict[str, object] = {RECORDS: {"recipe": records.recipe, "receipt": records.receipt}}
        if self.shards.index:
            texts[self.shards.index] = self._index()
        for name, value in texts.items():
            text = f"{json.dumps(value, indent=2, ensure_ascii=False)}\n"
            (out / name).write_text(text, encoding="utf-8")
            digests[name] = sha256(text.encode()).hexdigest()
        lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
        return Rewritten(sha256(lines.encode()).hexdigest(), tensors)

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


def _together(files: Mapping[str, Rewriting], which: str) -> dict[str, Mark]:
    return {name: mark for one in files.values() for name, mark in getattr(one, which).items()}


def _copied(source: Path, out: Path) -> str:
    """Copy a whole file, compared on the way; return its SHA-256."""
    nbytes = source.stat().st_size
    with Sink(out, nbytes) as sink:
        sink.copy(ByteRange(nbytes, source.resolve(), name=source.name))
        return sink.finish()

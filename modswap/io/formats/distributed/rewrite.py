"""Rewrite a folder of `torch.distributed.checkpoint`: copy its files, and add one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import torch

from modswap.core.kept.ledger import Changes
from modswap.io.formats.distributed.metadata import (
    CHUNK,
    DTYPES,
    METADATA,
    SIZE,
    TENSOR,
    Chunk,
    Distributed,
    Item,
    read_distributed,
)
from modswap.io.pickled.data import Instance, Name
from modswap.io.pickled.writing import write_pickle
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.copying import Sink
from modswap.io.raw.folder_files import RECORDS, as_json, entries, homes_of, put_links, put_texts
from modswap.io.raw.torch_zip_layout import read_inner_archive
from modswap.io.rewriting import Mark, Records, Rewritten

_OWN = "__modswap_{}.distcp"


@dataclass(frozen=True, slots=True)
class Fresh:
    """A new tensor or object, with the zip of `torch.save` that holds it.

    `keys` lead from the outside to it; `dtype` is empty if it is no tensor.
    """

    name: str
    keys: tuple[str | int, ...]
    data: bytes
    dtype: str = ""
    shape: tuple[int, ...] = ()


def fresh(keys: tuple[str | int, ...], value: Any) -> Fresh:
    """Return a tensor or object as a new item of a checkpoint, under its dotted name."""
    dtype, shape = "", tuple[int, ...]()
    if torch.is_tensor(value):
        dtype, shape = str(value.dtype).removeprefix("torch."), tuple(value.shape)
        value = value.detach().clone(memory_format=torch.contiguous_format)
    stream = BytesIO()
    torch.serialization.save(value, stream)
    return Fresh(".".join(map(str, keys)), keys, stream.getvalue(), dtype, shape)


@dataclass(frozen=True, slots=True)
class Names:
    """The names of items that are `gone`, and the new keys of those that are `moved`.

    A name that is gone may come again among new items.
    """

    gone: frozenset[str] | set[str]
    moved: Mapping[str, tuple[str | int, ...]]

    def now(self, name: str) -> str:
        """Return the name that an item has in the new checkpoint."""
        return ".".join(map(str, self.moved[name])) if name in self.moved else name


class DistributedRewriting:
    """A distributed checkpoint that is to be written with other tensors in it."""

    def __init__(
        self,
        source: Distributed,
        names: Names,
        fresh: Sequence[Fresh],
        changes: Changes,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.source = source
        self.entries = entries(source.folder)
        chunks = (chunk.file for item in source.items.values() for chunk in item.chunks)
        self.homes = homes_of(dict.fromkeys((METADATA, *chunks)), source.folder)
        self.names = names
        self.gone = frozenset(names.gone)
        self.fresh = fresh
        self.changes = changes
        self.notes = notes
        self.before = dict(marks(source, {}))
        kept = {n: mark for n, mark in self.before.items() if n not in self.gone}
        self.after = {names.now(name): mark for name, mark in kept.items()}
        for new in fresh:
            if new.dtype:
                place, nbytes = (None, new.name), prod(new.shape) * DTYPES[new.dtype]
                self.after[new.name] = Mark((new.dtype, new.shape, place), place, nbytes)

    def write(self, out: Path, records: Records, *, checksums: bool) -> Rewritten:
        """Write the folder into an empty one, and read its metadata again."""
        source = self.source
        chunks = _by_file(source.items.values())
        kept = _by_file(item for item in source.items.values() if item.name not in self.gone)
        moved: dict[tuple[str, int], int] = {}  # file and place there → new place
        copies: dict[tuple[str, int], ByteRange] = {}
        digests: dict[str, str] = {}
        left_out: set[str] = set()
        for entry in self.entries:
            name = self.homes.get(entry.name, entry.name)
            if entry.target or name in {METADATA, RECORDS}:
                continue
            if name in chunks and name not in kept:
                left_out.add(entry.name)
                continue
            file = out / entry.name
            file.parent.mkdir(parents=True, exist_ok=True)
            parts = kept[name] if len(kept.get(name, ())) < len(chunks.get(name, ())) else None
            copied = self._copied(name, file, parts, moved, copies, checksums=checksums)
            digests[entry.name] = copied
        taken = {*digests, *(entry.name for entry in self.entries if entry.target)}
        own = next(n for n in map(_OWN.format, range(len(taken) + 1)) if n not in taken)
        places = self._put_fresh(out / own, digests)
        metadata = next(home for home in self.homes if self.homes[home] == METADATA)
        texts = {metadata: write_pickle(self._metadata(moved, own, places))[0]}
        if records.receipt or records.recipe:
            texts[RECORDS] = as_json(asdict(records))
        sha256 = put_texts(out, texts, digests)
        links = (entry for entry in self.entries if entry.name != RECORDS)
        put_links(out, links, left_out)
        return Rewritten(sha256, dict(marks(read_distributed(out), copies)))

    def _copied(
        self,
        name: str,
        out: Path,
        parts: Sequence[Chunk] | None,
        moved: dict[tuple[str, int], int],
        copies: dict[tuple[str, int], ByteRange],
        *,
        checksums: bool,
    ) -> str:
        """Copy a file or parts of it to `out`, note each part's place there; return the SHA-256."""
        source = self.source.folder / name
        nbytes = source.stat().st_size if parts is None else sum(part.nbytes for part in parts)
        known = _by_file(self.source.items.values()).get(name, ()) if parts is None else parts
        with Sink(out, nbytes, checksums=checksums) as sink:
            for part in known:
                if (name, part.start) in moved:  # two parts have one place
                    continue
                if parts is None:
                    _copy_between(sink, source, sink.position, part.start)
                place = sink.position if parts is not None else part.start
                moved[name, part.start] = place
                copies[name, place] = ByteRange(part.nbytes, source, part.start)
                if place == sink.position:
                    for extent in _pieces(source, part):
                        sink.copy(extent)
            if parts is None:
                _copy_between(sink, source, sink.position, nbytes)
            return sink.finish()

    def _put_fresh(self, file: Path, digests: dict[str, str]) -> dict[str, int]:
        """Write the new items into a file of their own; return the start of each."""
        places: dict[str, int] = {}
        if not self.fresh:
            return places
        with Sink(file, sum(len(new.data) for new in self.fresh)) as sink:
            for new in self.fresh:
                places[new.name] = sink.position
                sink.write(new.data)
            digests[file.name] = sink.finish()
        return places

    def _metadata(
        self, moved: Mapping[tuple[str, int], int], own: str, places: Mapping[str, int]
    ) -> Instance:
        """Return the metadata of the new folder."""
        old = self.source.metadata
        state = dict(old.state)
        now, places_of = self.names.now, self.names.moved
        held = state["state_dict_metadata"]
        tensors = {now(n): v for n, v in held.items() if n not in self.gone}
        planner = state.get("planner_data")
        known = (planner or {}).items()
        keys = {now(n): places_of.get(n, v) for n, v in known if n not in self.gone}
        kept = [item for item in self.source.items.values() if item.name not in self.gone]
        storage: dict[Any, Any] = dict(
            _moved(chunk, moved, now(item.name)) for item in kept for chunk in item.chunks
        )
        form = _Form(self.source)
        for new in self.fresh:
            tensors[new.name] = form.described(new)
            keys[new.name] = new.keys
            index, info = form.placed(new, own, places[new.name])
            storage[index] = info
        state |= {"state_dict_metadata": tensors, "storage_data": storage}
        if isinstance(planner, dict):
            state["planner_data"] = keys
        return Instance(old.how, old.what, old.args, state)


class _Form:
    """The form of a checkpoint's metadata, in which further items are described."""

    def __init__(self, source: Distributed) -> None:
        state = source.metadata.state
        self.tensor = next(v for v in state["state_dict_metadata"].values() if v.what == TENSOR)
        self.index, self.info = next(
            chunk.index for item in source.items.values() for chunk in item.chunks
        )

    def described(self, new: Fresh) -> Instance:
        """Return the entry of the state dict."""
        if not new.dtype:
            return Instance("new", Name(TENSOR.module, "BytesStorageMetadata"), (), {})
        whole = {"offsets": _size((0,) * len(new.shape)), "sizes": _size(new.shape)}
        properties = self.tensor.state["properties"]
        dtype = Name("torch", new.dtype)
        old = properties.state  # a dictionary, or a tuple that begins with it
        state = {**old, "dtype": dtype} if isinstance(old, dict) else (dtype, *old[1:])
        inside = {
            **self.tensor.state,
            "properties": Instance(properties.how, properties.what, properties.args, state),
            "size": _size(new.shape),
            "chunks": [Instance("new", CHUNK, (), whole)],
        }
        return Instance(self.tensor.how, TENSOR, self.tensor.args, inside)

    def placed(self, new: Fresh, file: str, start: int) -> tuple[Instance, Instance]:
        """Return the entry of the storages."""
        state: dict[str, Any] = {"fqn": new.name, "index": None}
        if new.dtype:
            state = {"fqn": new.name, "offset": _size((0,) * len(new.shape)), "index": 0}
        index = Instance(self.index.how, self.index.what, self.index.args, state)
        place = {"relative_path": file, "offset": start, "length": len(new.data)}
        return index, _with(self.info, place)


def marks(source: Distributed, copies: Mapping[tuple[str, int], ByteRange]) -> Iterator[Any]:
    """Yield a mark for every tensor; a copied tensor has the mark of its source."""
    for item in source.tensors:
        places = tuple(_place(source, chunk, copies) for chunk in item.chunks)
        parts = tuple((c.offsets, c.sizes) for c in item.chunks)
        yield item.name, Mark((item.dtype, item.shape, parts, places), places, item.nbytes)


def _place(source: Distributed, chunk: Chunk, copies: Mapping[tuple[str, int], ByteRange]) -> Any:
    origin = copies.get((chunk.file, chunk.start))
    if origin is None:
        return source.folder / chunk.file, chunk.start, chunk.nbytes
    return origin.file, origin.start, chunk.nbytes


def _by_file(items: Iterable[Item]) -> dict[str, list[Chunk]]:
    """Return the chunks of each file, from front to back."""
    found: dict[str, list[Chunk]] = defaultdict(list)
    for item in items:
        for chunk in item.chunks:
            found[chunk.file].append(chunk)
    return {name: sorted(chunks, key=lambda c: c.start) for name, chunks in found.items()}


def _pieces(file: Path, chunk: Chunk) -> Iterator[ByteRange]:
    """Yield a part of a file in such pieces that checksums of records apply to some of them."""
    place, end = chunk.start, chunk.start + chunk.nbytes
    try:
        records = read_inner_archive(file, chunk.start, chunk.nbytes).records.values()
    except ValueError:
        records = {}.values()
    for record in sorted((r for r in records if r.nbytes), key=lambda r: r.start):
        yield ByteRange(record.start - place, file, place)
        yield replace(record, name=f"{file.name}: {record.name}")
        place = record.start + record.nbytes
    yield ByteRange(end - place, file, place)


def _copy_between(sink: Sink, file: Path, start: int, end: int) -> None:
    if end > start:
        sink.copy(ByteRange(end - start, file, start))


def _moved(
    chunk: Chunk, moved: Mapping[tuple[str, int], int], name: str
) -> tuple[Instance, Instance]:
    index, info = chunk.index
    if index.state["fqn"] != name:
        index = _with(index, {"fqn": name})
    return index, _with(info, {"offset": moved[chunk.file, chunk.start]})


def _with(made: Instance, update: Mapping[str, Any]) -> Instance:
    return Instance(made.how, made.what, made.args, {**made.state, **update})


def _size(sides: tuple[int, ...]) -> Instance:
    return Instance("called", SIZE, (sides,))

"""Everything in a folder of `torch.distributed.checkpoint`, from its metadata."""

import hashlib
from math import prod

from modswap.core.kept.difference import Facts, Kind
from modswap.core.seen.entries import (
    PlainEntry,
    file_text,
    in_short,
    is_optimizer,
    name_of,
    text_of,
)
from modswap.io.formats.contents import Contents, HeldTensor, Tile, row_major
from modswap.io.formats.distributed.metadata import (
    DTYPES,
    Chunk,
    Distributed,
    Item,
    read_distributed,
)
from modswap.io.formats.distributed.outline import model_keys
from modswap.io.pickled.data import Instance, Name, Storage, UnreadableError, read_pickle
from modswap.io.pickled.opened import PICKLE, content
from modswap.io.pickled.storages import DATA
from modswap.io.pickled.walk import is_plain
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.folder_files import own_records
from modswap.io.raw.torch_zip_layout import read_inner_archive
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import common_prefix

_LEVELS = 2  # of keys at which optimizers are kept: `app.optim`


def distributed_contents(look: Look) -> Contents:
    """Return everything in a folder of `torch.distributed.checkpoint`.

    Raises:
        CheckpointError: If its metadata or a part of a tensor are damaged.
        UnsafeError: If the metadata name classes that do not belong in them.
    """
    source = read_distributed(look.file)
    keys = model_keys(list(source.tensors))
    own = [str(item.keys[-1]) for item in source.tensors if item.keys[:-1] == keys]
    prefix = common_prefix(own)
    tensors: dict[str, HeldTensor] = {}
    entries: dict[str, PlainEntry] = {}
    for item in source.items.values():
        try:
            if item.dtype:
                tensors[_name(item, keys, prefix)] = _held(source, item, _kind(item, keys))
            else:
                kind = "optimizer" if _kind(item, keys) == "optimizer" else "metadata"
                entries[_name(item, keys, prefix)] = PlainEntry(_object_text(source, item), kind)
        except (ValueError, KeyError, OSError, UnreadableError) as error:
            what = f"a part of {item.name!r:.80} is damaged: {error}"
            raise look.error(what[:400], "save it again") from None
    records = own_records(look.file) or {}
    entries |= {f"modswap.{n}": PlainEntry(in_short(str(t))) for n, t in records.items() if t}
    place = f"under {'.'.join(map(str, keys))!r}" if keys else ""
    return Contents("distributed", tensors, {}, entries, place=place)


def _name(item: Item, keys: tuple[object, ...], prefix: str) -> str:
    if item.keys[:-1] == keys:
        return str(item.keys[-1]).removeprefix(prefix)
    return name_of(item.keys)


def _kind(item: Item, keys: tuple[object, ...]) -> Kind:
    if item.keys[:-1] == keys:
        return "weights"
    return "optimizer" if any(map(is_optimizer, item.keys[:_LEVELS])) else "other"


def _held(source: Distributed, item: Item, kind: Kind) -> HeldTensor:
    """Return a tensor with the places of its bytes: one behind the other, or as tiles."""
    facts = Facts(item.dtype, item.shape, kind)
    parts = [chunk for chunk in item.chunks if prod(chunk.sizes)]
    tiles = [Tile(one.offsets, one.sizes, _extent(source, item, one)) for one in parts]
    tiles.sort(key=lambda tile: tile.offsets)
    identity = tuple((tile.extent.file, tile.extent.start) for tile in tiles) or None
    if all(tile.sizes[1:] == item.shape[1:] for tile in tiles):
        return HeldTensor(facts, tuple(tile.extent for tile in tiles), identity=identity)
    return HeldTensor(facts, (), None, tuple(tiles), identity)


def _extent(source: Distributed, item: Item, chunk: Chunk) -> ByteRange:
    """Return the bytes of a part of a tensor.

    Raises:
        ValueError: If it is no plain tensor of the size that the metadata give, row by row.
    """
    archive = read_inner_archive(source.folder / chunk.file, chunk.start, chunk.nbytes)
    value, _ = read_pickle(content(archive.records[PICKLE]))
    match value:
        case Instance(
            what=Name("torch._utils", "_rebuild_tensor_v2"),
            args=(Storage() as stored, int() as offset, tuple() as size, tuple() as strides, *_),
        ) if size == chunk.sizes:
            pass
        case _:
            raise ValueError("it holds no plain tensor of its size in the metadata")
    itemsize = DTYPES[item.dtype]
    held = archive.records[f"{DATA}{stored.key}"]
    nbytes = prod(size) * itemsize
    if not row_major(size, strides) or not 0 <= offset * itemsize <= held.nbytes - nbytes:
        raise ValueError("its elements are not one behind the other")
    return ByteRange(nbytes, held.file, held.start + offset * itemsize, name=held.name)


def _object_text(source: Distributed, item: Item) -> str:
    """Return an object that is no tensor as text, or the digest of its pickle."""
    (chunk,) = item.chunks
    archive = read_inner_archive(source.folder / chunk.file, chunk.start, chunk.nbytes)
    data = content(archive.records[PICKLE])
    value, _ = read_pickle(data)
    return text_of(value) if is_plain(value) else file_text(len(data), _digest(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

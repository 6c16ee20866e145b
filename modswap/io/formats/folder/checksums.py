"""The checksums of a folder's weights: those of its receipt, and those of its zips."""

import zlib
from collections.abc import Iterator, Mapping

from modswap.core.kept.receipt import read_receipt
from modswap.io.formats.folder.shards import Shards, read_shards, records_in
from modswap.io.formats.safetensors.digests import file_checksums, tensor_checksums
from modswap.io.formats.safetensors.header import sound_header
from modswap.io.raw.checksums import Checksums, zip_checksums
from modswap.io.recognise.look import Look, is_safetensors
from modswap.io.recognise.small_files import MAX_INDEX_BYTES, read_small

STALE = "its index was written anew since modswap wrote the folder: the digests are of older shards"


def folder_checksums(look: Look) -> Checksums:
    """Return the checksums of the weights of a folder.

    Raises:
        CheckpointError: If a header, the index or the receipt is damaged.
    """
    shards = read_shards(look)
    parts = [known for _, known in shard_checksums(shards)]
    return Checksums(
        tuple(held for part in parts for held in part.ranges),
        sum(part.unknown for part in parts),
        tuple(found for part in parts for found in part.differences),
        next((part.stale for part in parts if part.stale), ""),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def shard_checksums(shards: Shards) -> Iterator[tuple[str, Checksums]]:
    """Yield the checksums of every file of weights, by its name."""
    digests = _digests(shards)
    index = digests.get(shards.index) if shards.index else None
    stale = ""
    if index is not None and index != _index_digest(shards):
        stale = STALE
    for name, shard in shards.looks.items():
        if not is_safetensors(shard):
            yield name, zip_checksums(shard)
        elif name not in digests and not shards.index:
            yield name, file_checksums(shard)  # it may have a receipt of its own
        else:
            yield name, tensor_checksums(shard, sound_header(shard), digests.get(name), stale)


def _digests(shards: Shards) -> Mapping[str, str]:
    text = records_in(shards.folder).get("receipt")
    return read_receipt(text, str(shards.folder)).digests if text else {}


def _index_digest(shards: Shards) -> str:
    """Return the CRC-32 of an index in hexadecimal."""
    data = read_small(shards.folder / shards.index, MAX_INDEX_BYTES, folder=shards.folder)
    return f"{zlib.crc32(data):08x}"

"""Everything in a folder of weights: the tensors of its shards, and its other files."""

from collections.abc import Iterator

from modswap.core.errors import CheckpointError
from modswap.core.seen.entries import PlainEntry, file_text, flat, in_short
from modswap.io.formats.contents import Contents, HeldTensor
from modswap.io.formats.folder.shards import Shards, read_shards, records_in
from modswap.io.formats.safetensors.contents import held_tensors, safetensors_contents
from modswap.io.formats.safetensors.header import sound_header
from modswap.io.formats.torch.contents import torch_contents
from modswap.io.pickled.contents import VERSION
from modswap.io.raw.folder_files import RECORDS, entries
from modswap.io.recognise.look import Look, is_safetensors
from modswap.io.recognise.model_places import common_prefix
from modswap.io.recognise.small_files import MAX_CONFIG_BYTES, read_json
from modswap.io.sha256_list import sha256_of


def folder_contents(look: Look) -> Contents:
    """Return everything in a folder.

    Raises:
        UnreadableError: If a pickle in it cannot be read as data.
        CheckpointError: If a header or the index is damaged, or a file is no plain one.
    """
    shards = read_shards(look)
    tensors: dict[str, HeldTensor] = {}
    found: dict[str, PlainEntry] = {}
    for name, shard in shards.looks.items():
        if is_safetensors(shard):
            held = held_tensors(sound_header(shard))
            found |= safetensors_contents(shard).entries
        else:
            inside = torch_contents(shard)
            held = dict(inside.tensors)
            found |= {n: e for n, e in inside.entries.items() if not n.endswith(VERSION)}
        double = next((one for one in held if one in tensors), None)
        if double is not None:
            raise look.error(f"two of its files hold {double!r:.80}, {name!r:.80} among them")
        tensors |= held
    prefix = common_prefix(list(tensors))
    named = {name.removeprefix(prefix): held for name, held in tensors.items()}
    found |= {
        f"modswap.{n}": PlainEntry(in_short(text)) for n, text in records_in(look.file).items()
    }
    found |= dict(_files(shards))
    return Contents("folder", named, {}, found)


def _files(shards: Shards) -> Iterator[tuple[str, PlainEntry]]:
    """Yield the other files of a folder: JSON by its keys, all others by their digests."""
    own = {*shards.looks, *shards.homes, shards.index, shards.index_home, RECORDS}
    for entry in entries(shards.folder):
        if entry.name in own or entry.target:
            continue
        if entry.name.endswith(".json"):
            try:
                data = read_json(entry.place, MAX_CONFIG_BYTES)
            except CheckpointError:
                data = None  # too large, or malformed: its bytes are compared
            if data is not None:
                yield from flat(f"{entry.name}:", data, "container")
                continue
        nbytes = entry.place.stat().st_size
        text = file_text(nbytes, sha256_of(entry.place))
        yield f"file {entry.name}", PlainEntry(text, "container")

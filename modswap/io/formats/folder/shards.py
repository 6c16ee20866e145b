"""Folders of weights, as Hugging Face's libraries write them: an index, shards, and other files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modswap.core.budget import MAX_HEADER_ENTRIES
from modswap.core.errors import CheckpointError
from modswap.io.raw.folder_files import homes_of, own_records, texts
from modswap.io.recognise.links import place_of
from modswap.io.recognise.look import (
    Look,
    header_of_safetensors,
    is_safetensors,
    is_torch_zip,
    look_at,
)
from modswap.io.recognise.small_files import MAX_INDEX_BYTES, read_json

INDEX = ".index.json"
# files that hold all weights of a folder
_SINGLE = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)


@dataclass(frozen=True, slots=True)
class Shards:
    """The files of a folder that hold its weights, by their names.

    `index` is the name of its index, empty where one file holds everything; `head` holds the
    entries of the index beside its map from names of tensors to files, `places`. Names may be
    links: `homes` has the names of `looks` by the files that they lead to, `index_home` the file
    of the index.
    """

    folder: Path
    index: str
    head: Mapping[str, Any]
    looks: Mapping[str, Look]
    places: Mapping[str, str]
    homes: Mapping[str, str]
    index_home: str = ""


def is_folder(look: Look) -> bool:
    """Return whether it is a folder with weights in it that can be read."""
    return look.file.is_dir() and _chosen(look) is not None


def _chosen(look: Look) -> str | None:
    """Return the index, or the file of weights, that a folder is read by."""
    known = [name for name in look.names if name.endswith(INDEX) or name in _SINGLE]
    # safetensors before pickles, shards before a single file
    return min(
        known, key=lambda n: ("safetensors" not in n, not n.endswith(INDEX), n), default=None
    )


def read_shards(look: Look) -> Shards:
    """Return the files that hold the weights of a folder that was recognised.

    Raises:
        CheckpointError: If the index is damaged, or a file that it names is not there.
    """
    name = _chosen(look) or ""
    if not name.endswith(INDEX):
        homes = homes_of((name,), look.file)
        return Shards(look.file, "", {}, {name: _shard(look, name)}, {}, homes)
    index = _index(look, name)
    places = index.pop("weight_map")
    shards = {n: _shard(look, n) for n in dict.fromkeys(places.values())}
    homes = homes_of((name, *shards), look.file)
    home = next(home for home in homes if homes[home] == name)
    return Shards(look.file, name, index, shards, places, homes, home)


def _index(look: Look, name: str) -> dict[str, Any]:
    """Return an index of shards, with the file of every tensor under `weight_map`."""
    try:
        index = read_json(look.file / name, MAX_INDEX_BYTES, folder=look.file)
    except FileNotFoundError:
        what = f"its index {name!r} is a link to a file that is not there"
        raise look.error(what, "save or download it again") from None
    except CheckpointError as error:
        if error.where == str(look.file):
            raise
        what = f"its index {name!r} {error.what.removeprefix('it ')}"
        raise look.error(what, error.fix) from None
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not places or not isinstance(places, dict) or set(map(type, places.values())) != {str}:
        what = f"its index {name!r} has no `weight_map` from names to files"
        raise look.error(what, "save or download it again")
    if len(places) > MAX_HEADER_ENTRIES:
        what = f"its index {name!r} names over {MAX_HEADER_ENTRIES:,} tensors"
        raise look.error(what, "do not use it: no program writes such a file")
    outside = next(filter(_is_outside, set(places.values())), None)
    if outside is not None:
        what = f"its index {name!r} names a file outside the folder: {outside!r:.80}"
        raise look.error(what, "do not use it: it was tampered with")
    return dict(index)


def _is_outside(name: str) -> bool:
    return name in {"", ".", ".."} or "/" in name or "\\" in name


def _shard(look: Look, name: str) -> Look:
    place_of(look.file / name, look.file)
    found = look_at(look.file / name)
    if is_safetensors(found) or is_torch_zip(found):
        return found
    what = f"its file {name!r} holds no weights that could be read"
    raise look.error(what, "save or download it again")


def records_in(folder: Path) -> dict[str, str]:
    """Return modswap's own records in a folder: the recipe and the receipt, if they are there.

    Where the folder has none, those of its one safetensors file count: it was swapped by itself.
    """
    held = own_records(folder)
    return texts(_records_of_the_one(look_at(folder))) if held is None else held


def _records_of_the_one(look: Look) -> dict[str, Any]:
    name = _chosen(look)
    if name not in _SINGLE or not name.endswith(".safetensors"):
        return {}
    metadata = header_of_safetensors(_shard(look, name)).get("__metadata__")
    known = metadata if isinstance(metadata, dict) else {}
    return {record: known.get(f"modswap.{record}") for record in ("recipe", "receipt")}

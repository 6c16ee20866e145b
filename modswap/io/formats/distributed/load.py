"""Read folders of `torch.distributed.checkpoint` item by item, and prepare their rewriting."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from mmap import mmap
from typing import Any

import torch

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError
from modswap.io.formats.container import Container, Slot, find_slots
from modswap.io.formats.distributed.metadata import Chunk, Distributed, Item, read_distributed
from modswap.io.formats.distributed.optimizer_state import keep
from modswap.io.formats.distributed.rewrite import DistributedRewriting, Names, fresh
from modswap.io.formats.format import Swaps
from modswap.io.pickled.data import Instance, Name, Storage, UnreadableError, read_pickle
from modswap.io.pickled.opened import PICKLE, content
from modswap.io.pickled.storages import DATA
from modswap.io.raw.folder_files import own_records
from modswap.io.raw.torch_zip_layout import read_inner_archive
from modswap.io.recognise.look import Look
from modswap.io.rewriting import Rewriting


def load(look: Look, policy: Policy) -> Container:
    """Read the models of a folder of `torch.distributed.checkpoint`.

    Of weights of more bytes than the policy's `most` only the shapes are read.

    Raises:
        CheckpointError: If it is damaged.
        UnsafeError: If its metadata name classes that do not belong in them.
    """
    source = read_distributed(look.file)
    tensors = list(source.tensors)
    shapes = dict(zip((item.name for item in tensors), _shapes(tensors), strict=True))
    slots = _slots(source, shapes, look)
    names = {slot.keys: _names(source, slot) for slot in slots}
    nbytes = sum(source.items[name].nbytes for name in names[slots[0].keys].values())
    if policy.most is None or nbytes <= policy.most:
        slots = tuple(_read(source, slot, names[slot.keys]) for slot in slots)
    payload: Any = {}
    for slot in slots:
        held = {f"{slot.prefix}{name}": tensor for name, tensor in slot.value.items()}
        payload = _put(payload, slot.keys, held)
    own = own_records(look.file) or {}
    return Container(
        "distributed", look.file, payload, slots, {}, own.get("recipe"), own.get("receipt")
    )


def _slots(source: Distributed, shapes: Mapping[str, torch.Tensor], look: Look) -> tuple[Slot, ...]:
    payload: Any = {}
    for item in source.items.values():
        payload = _put(payload, item.keys, shapes.get(item.name))
    try:
        return find_slots(payload, look.file)
    except CheckpointError:
        bare = {name: tensor for name, tensor in payload.items() if torch.is_tensor(tensor)}
        if not bare:
            raise
        return find_slots(bare, look.file)  # the model's names are beside an optimizer


def _put(payload: Any, keys: tuple[str | int, ...], value: Any) -> Any:
    """Put a value into nested dictionaries; return them."""
    if not keys:
        return value
    held = payload
    for key in keys[:-1]:
        inner = held.setdefault(key, {})
        if not isinstance(inner, dict):
            return payload  # two entries disagree on this key
        held = inner
    held[keys[-1]] = value
    return payload


def _names(source: Distributed, slot: Slot) -> dict[str, str]:
    """Return the item of each of a slot's weights."""
    by_keys = {item.keys: item.name for item in source.tensors}
    return {name: by_keys[*slot.keys, f"{slot.prefix}{name}"] for name in slot.value}


def _shapes(items: list[Item]) -> list[torch.Tensor]:
    """Return tensors of the items' shapes that take no memory: nothing was written to them."""
    starts, end = [], 0
    for item in items:
        starts.append(end)
        end += -(-max(item.nbytes, 1) // 64) * 64
    with tempfile.TemporaryFile() as file:  # a hole, and nothing else
        file.truncate(end)
        hole = mmap(file.fileno(), end)
    return [
        torch.frombuffer(
            hole, dtype=getattr(torch, item.dtype), count=item.numel, offset=start
        ).view(item.shape)
        if item.numel
        else torch.empty(item.shape, dtype=getattr(torch, item.dtype))
        for item, start in zip(items, starts, strict=True)
    ]


def _read(source: Distributed, slot: Slot, names: Mapping[str, str]) -> Slot:
    read = {name: read_tensor(source, source.items[names[name]]) for name in slot.value}
    return replace(slot, value=read)


def read_tensor(source: Distributed, item: Item) -> torch.Tensor:
    """Return a tensor, put together from the parts that the ranks wrote.

    Raises:
        CheckpointError: If a part is damaged.
    """
    whole = torch.empty(item.shape, dtype=getattr(torch, item.dtype))
    for chunk in item.chunks:
        try:
            part = _part(source, item, chunk)
        except (ValueError, KeyError, OSError, UnreadableError, RuntimeError) as error:
            what = f"a part of {item.name!r} in {chunk.file!r} is damaged: {error}"
            raise CheckpointError(what[:400], str(source.folder), "save it again") from None
        place = tuple(slice(o, o + s) for o, s in zip(chunk.offsets, chunk.sizes, strict=True))
        whole[place] = part
    return whole


def _part(source: Distributed, item: Item, chunk: Chunk) -> torch.Tensor:
    archive = read_inner_archive(source.folder / chunk.file, chunk.start, chunk.nbytes)
    value, _ = read_pickle(content(archive.records[PICKLE]))
    match value:
        case Instance(
            what=Name("torch._utils", "_rebuild_tensor_v2"),
            args=(Storage() as stored, int() as offset, tuple() as size, tuple() as strides, *_),
        ):
            pass
        case _:
            raise ValueError("it holds no plain tensor")
    if size != chunk.sizes:
        raise ValueError(f"it is {size}, and {chunk.sizes} in the metadata")
    record = archive.records[f"{DATA}{stored.key}"]
    dtype = getattr(torch, item.dtype)
    if not prod(size):
        return torch.empty(size, dtype=dtype)
    storage = torch.frombuffer(bytearray(content(record)), dtype=dtype)
    return storage.as_strided(size, strides, offset)


def rewrite(container: Container, swaps: Swaps, policy: Policy) -> Rewriting:
    """Prepare the same folder with other tensors in it."""
    del policy
    source = read_distributed(container.file)
    kept = keep(source, swaps.parameters)
    removal = swaps.removal
    gone = {name for name in source.items if name in removal}
    new = [fresh((*s.slot.keys, n), value) for s in swaps.slots for n, value in s.weights.items()]
    new += sorted(kept.fresh, key=lambda one: not one.dtype)  # tensors first
    changes = replace(
        swaps.changes,
        prefixes=(*removal.prefixes, *kept.prefixes),
        renamed={old: ".".join(map(str, keys)) for old, keys in kept.moved.items()},
        gone=kept.gone,
    )
    names = Names(gone.union(kept.gone), kept.moved)
    return DistributedRewriting(source, names, new, changes, tuple(kept.notes))

"""Everything in a file of `torch.save`, from its pickle read as data."""

import hashlib
from collections.abc import Iterator
from typing import Any

from modswap.core.kept.difference import Facts, Kind
from modswap.core.seen.entries import PlainEntry, file_text, in_short
from modswap.io.formats.contents import Contents, HeldTensor, row_major, span
from modswap.io.formats.torch.rewrite import RECEIPT, RECIPE
from modswap.io.pickled.contents import PayloadContents, payload_contents
from modswap.io.pickled.data import Instance, Storage, UnreadableError
from modswap.io.pickled.opened import PICKLE, Opened, content, open_torch
from modswap.io.pickled.storages import DATA, Storages
from modswap.io.pickled.values import own_call, tensor_parts
from modswap.io.raw.byte_range import ByteRange
from modswap.io.recognise.dtypes import dtype_of
from modswap.io.recognise.look import Look

# records of torch's own, which say nothing of the payload
_OF_TORCH = frozenset(
    (PICKLE, "version", "byteorder", ".format_version", ".storage_alignment", ".data/version",
     ".data/serialization_id")
)  # fmt: skip
_OWN = {RECIPE: "modswap.recipe", RECEIPT: "modswap.receipt"}


def torch_contents(look: Look) -> Contents:
    """Return everything in a file of `torch.save`; nothing of it is built.

    Raises:
        UnreadableError: If its pickle cannot be read as data.
        CheckpointError: If the record of a tensor is missing, or of another size.
    """
    opened = open_torch(look)
    found = payload_contents(opened.payload)
    storages = Storages(look, opened.archive.records)
    tensors = {
        name: _held(value, kind, storages, optional=name in found.optional)
        for name, (value, kind) in found.tensors.items()
    }
    return Contents(
        "torch" if look.names else "torch (legacy)",
        tensors,
        found.modules,
        dict(_entries(found, opened)),
        found.numbered,
        found.grouped,
        found.place,
    )


def _entries(found: PayloadContents, opened: Opened) -> Iterator[tuple[str, PlainEntry]]:
    """Yield all values that are no tensors, those of modswap and of other records included."""
    for name, entry in found.entries.items():
        start, _, rest = name.partition(":")
        yield (f"modswap.{rest}" if start == "modswap" and rest else name), entry
    for name, held in opened.archive.records.items():
        if name in _OWN:
            yield _OWN[name], PlainEntry(in_short(content(held).decode("utf-8", "replace")))
        elif name not in _OF_TORCH and not name.startswith(DATA):
            digest = hashlib.sha256(content(held)).hexdigest()
            yield f"record {name}", PlainEntry(file_text(held.nbytes, digest))


def _held(value: Any, kind: Kind, storages: Storages, *, optional: bool) -> HeldTensor:
    if isinstance(value, Storage):
        facts = Facts(dtype_of(value.dtype), (value.count,), kind)
        return HeldTensor(facts, (storages.find(value),), identity=id(value))
    parts = tensor_parts(value)
    layout = _layout(value)
    if parts is None or layout is None:
        raise UnreadableError("a tensor of it has no plain size")
    shape, strides = layout
    facts = Facts(dtype_of(parts.dtype), shape, kind)
    identity = (parts.stored.home, parts.stored.key, parts.offset, shape, strides)
    if not parts.numel:
        return HeldTensor(facts, (), optional=optional)
    try:
        own = row_major(shape, strides)
    except ValueError as error:
        raise UnreadableError(str(error)) from None
    count = parts.numel if own else span(shape, strides)
    extent = _part(storages.find(parts.stored), parts.offset, count, parts.itemsize)
    return HeldTensor(facts, (extent,), None if own else strides, (), identity, optional)


def _layout(value: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the shape and the strides in the call that makes a tensor."""
    call = own_call(value)
    sides = call.args[2:4] if call is not None else ()
    plain = [one.args[0] if isinstance(one, Instance) and one.args else one for one in sides]
    match plain:
        case [tuple() | list() as shape, tuple() | list() as strides]:
            return tuple(shape), tuple(strides)
    return None


def _part(held: ByteRange, offset: Any, count: int, itemsize: int) -> ByteRange:
    """Return the bytes of elements in a storage."""
    start, nbytes = offset * itemsize if isinstance(offset, int) else -1, count * itemsize
    if not 0 <= start <= held.nbytes - nbytes:
        raise UnreadableError("a tensor of it reaches beyond its storage")
    data = held.data[start : start + nbytes] if held.file is None else b""
    return ByteRange(nbytes, held.file, held.start + start, data, name=held.name)

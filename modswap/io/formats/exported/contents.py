"""Everything in an archive of `torch.export`, from its JSON; nothing of it is run."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from modswap.core.kept.difference import Facts
from modswap.core.seen.entries import PlainEntry, file_text, in_short
from modswap.io.formats.contents import Contents, HeldTensor, row_major, span
from modswap.io.pickled.data import UnreadableError
from modswap.io.pickled.opened import content
from modswap.io.pickled.values import DTYPE_BYTES
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.torch_zip_layout import read_stored
from modswap.io.recognise.json_text import parse_json
from modswap.io.recognise.look import Look

_MAX_JSON_BYTES = 256 << 20
_CONFIGS = ("data/weights/", "data/constants/")
# dtypes by the numbers that torch.export gives them
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
    28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
}  # fmt: skip
_SMALL_BYTES = {"float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1}
_EXTRA = "extra/"
_OWN = {"modswap/recipe.yaml": "modswap.recipe", "modswap/receipt.json": "modswap.receipt"}
_NO_CONTENT = (".data/", "archive_", "byteorder", "version", "data/weights/", "data/constants/")


def exported_contents(look: Look) -> Contents:
    """Return everything in an archive of `torch.export`.

    Raises:
        UnreadableError: If its JSON is not of the form that torch 2.8 and later write.
        CheckpointError: If its zip is damaged or compressed.
    """
    records = {name.partition("/")[2]: held for name, held in read_stored(look).items()}
    try:
        model = _json(records["models/model.json"])
        tensors = dict(_tensors(records, _transient(model)))
        nodes = model["graph_module"]["graph"]["nodes"]
        modules = dict(_modules(nodes))
        entries = {"graph": _graph(nodes), **dict(_entries(records))}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"its JSON is not of the form that is known: {type(error).__name__} {error}"
        raise UnreadableError(what[:200]) from None
    return Contents("torch.export", tensors, modules, entries, complete=False)


def _json(held: ByteRange) -> Any:
    if held.nbytes > _MAX_JSON_BYTES:
        raise UnreadableError(f"its JSON has {held.nbytes:,} bytes")
    return parse_json(content(held), held.name)


def _transient(model: Mapping[str, Any]) -> set[str]:
    """Return the buffers that are not persistent."""
    specs = model["graph_module"]["signature"]["input_specs"]
    buffers = (spec["buffer"] for spec in specs if "buffer" in spec)
    return {one["buffer_name"] for one in buffers if not one.get("persistent", True)}


def _tensors(
    records: Mapping[str, ByteRange], transient: set[str]
) -> Iterator[tuple[str, HeldTensor]]:
    for folder in _CONFIGS:
        for name, record in records.items():
            if name.startswith(folder) and name.endswith("_config.json"):
                for tensor, entry in _json(record)["config"].items():
                    held = records[f"{folder}{entry['path_name']}"]
                    yield tensor, _held(entry, held, optional=tensor in transient)


def _held(entry: Mapping[str, Any], record: ByteRange, *, optional: bool) -> HeldTensor:
    meta = entry["tensor_meta"]
    if entry.get("use_pickle") or meta is None:
        return HeldTensor(Facts("pickled", (record.nbytes,)), (record,), optional=optional)
    shape, strides = _sides(meta["sizes"]), _sides(meta["strides"])
    dtype = _DTYPES[meta["dtype"]]
    itemsize = DTYPE_BYTES.get(dtype) or _SMALL_BYTES[dtype]
    own = row_major(shape, strides)
    count = 0 if 0 in shape else prod(shape) if own else span(shape, strides)
    (offset,) = _sides([meta["storage_offset"]])
    start, nbytes = offset * itemsize, count * itemsize
    if start + nbytes > record.nbytes:
        raise ValueError("a tensor of it reaches beyond its record")
    facts, order = Facts(dtype, shape), None if own else strides
    if not nbytes:
        return HeldTensor(facts, (), order, optional=optional)
    extent = ByteRange(nbytes, record.file, record.start + start, name=record.name)
    return HeldTensor(facts, (extent,), order, (), (record.name, start, shape, strides), optional)


def _sides(values: Sequence[Any]) -> tuple[int, ...]:
    """Return whole numbers as the archive writes them."""
    found = tuple(int(value["as_int"]) for value in values)
    if min(found, default=0) < 0:
        raise ValueError("a tensor of it has a size below 0")
    return found


def _modules(nodes: list[Any]) -> Iterator[tuple[str, str]]:
    """Yield path and class of the modules whose operations are in the graph."""
    for node in nodes:
        for part in str(node["metadata"].get("nn_module_stack", "")).split(";"):
            _, path, class_name = (*part.split(","), "", "")[:3]
            if class_name:
                yield path.partition("@")[0], class_name


def _graph(nodes: list[Any]) -> PlainEntry:
    """Return the operations of the graph, in order, as one value."""
    targets = json.dumps([node["target"] for node in nodes])
    digest = hashlib.sha256(targets.encode()).hexdigest()
    return PlainEntry(f"{len(nodes):,} operations, sha256 {digest[:12]}…", "container")


def _entries(records: Mapping[str, ByteRange]) -> Iterator[tuple[str, PlainEntry]]:
    for name, held in records.items():
        own = name.removeprefix(_EXTRA)
        if own in _OWN:
            yield _OWN[own], PlainEntry(in_short(content(held).decode("utf-8", "replace")))
        elif not name.startswith(_NO_CONTENT) and name != "models/model.json":
            digest = hashlib.sha256(content(held)).hexdigest()
            yield f"record {name}", PlainEntry(file_text(held.nbytes, digest), "container")

"""What a file holds, for a swap that builds nothing of it: places, sites, sizes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from modswap.core.decided.optimizer import Parameter
from modswap.core.seen.site import Site
from modswap.core.seen.tree import TreeRow
from modswap.io.formats.distributed.metadata import is_distributed, read_distributed
from modswap.io.formats.distributed.outline import model_items
from modswap.io.formats.folder.outline import folder_sizes
from modswap.io.formats.folder.shards import is_folder, read_shards, records_in
from modswap.io.formats.safetensors.rewrite import OTHER, read_header
from modswap.io.formats.safetensors.rewrite import RECEIPT as NAMED_RECEIPT
from modswap.io.formats.torch.rewrite import RECEIPT
from modswap.io.pickled.data import Instance, UnreadableError
from modswap.io.pickled.modules import (
    Sizes,
    dtypes_of,
    host_attributes,
    named_parameters,
    sizes_of,
)
from modswap.io.pickled.opened import Opened, content, open_legacy, open_zip
from modswap.io.pickled.outline import FoundModel, places, rows_of
from modswap.io.pickled.values import is_module, mapping, tensor_parts, without_wrappers
from modswap.io.pickled.walk import named_modules
from modswap.io.recognise.implied_tree import elements, implied_rows
from modswap.io.recognise.look import Look, foreign, is_safetensors, is_torch_legacy, is_torch_zip
from modswap.io.recognise.model_places import COUNTER, OWN_KEY, common_prefix

_DTYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a model or its weights sit.

    Args:
        keys: Keys from the payload down to it.
        kind: Whether a whole module sits there, or weights by name.
        prefix: What wrappers put before every name.
        dtype: The floating dtype of what sits there.
    """

    keys: tuple[str, ...]
    kind: Literal["module", "weights"]
    prefix: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Ward:
    """A site that was only read about.

    Args:
        site: What is known of it; it has no calls.
        sizes: What its own layers tell of its sizes; None where they tell nothing.
        attributes: Plain attributes, among them what a host put on it.
    """

    site: Site
    sizes: Sizes | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file holds.

    Args:
        format: Name of the row of the table of formats.
        places: Where the model sits, the primary place first.
        wards: Every module but the model itself, in its order.
        parameters: The model's parameters; empty where only tensors are known.
        params: Parameter elements of the model.
        metadata: The strings of a safetensors file.
        receipt: The receipt of an earlier swap.
    """

    format: str
    places: tuple[Place, ...]
    wards: tuple[Ward, ...]
    parameters: tuple[Parameter, ...] = ()
    params: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    receipt: str | None = None


def survey(look: Look) -> Survey:
    """Return what a file holds; nothing of it is built.

    Raises:
        CheckpointError: If it is damaged, or of a kind that cannot be read so.
    """
    if is_safetensors(look):
        return _named(look)
    if is_distributed(look):
        return _distributed(look)
    try:
        if is_folder(look):
            return _folder(look)
        if is_torch_zip(look):
            return _pickled(look, "torch", open_zip(look))
        if is_torch_legacy(look):
            return _pickled(look, "torch (legacy)", open_legacy(look))
    except (UnreadableError, RecursionError) as error:
        what = f"its pickle cannot be read as data: {error}"
        raise look.error(what, "save it again with a current torch") from None
    raise foreign(look)


def _named(look: Look) -> Survey:
    header = read_header(look)
    sizes = {n: (elements(t.shape) or 0, t.extent.nbytes) for n, t in header.tensors.items()}
    sizes |= {alias: sizes[name] for alias, name in header.ties.items()}
    prefix = common_prefix(list(sizes))
    dtype = next((_DTYPES[t.dtype] for t in header.tensors.values() if t.dtype in _DTYPES), "")
    rows = implied_rows({name.removeprefix(prefix): size for name, size in sizes.items()})
    own = {name: text for name, text in header.metadata.items() if name not in header.ties}
    receipt = own.pop(NAMED_RECEIPT, None)
    metadata = {name: text for name, text in own.items() if name not in OTHER or name == "format"}
    place = Place((), "weights", prefix, dtype or "float32")
    wards = tuple(_ward(row, dtype or "float32") for row in rows if row.path)
    total = next((row.params for row in rows), 0)
    return Survey("safetensors", (place,), wards, (), total, metadata, receipt)


def _folder(look: Look) -> Survey:
    shards = read_shards(look)
    sizes = folder_sizes(look)
    # one file of it tells the dtype of all
    first = survey(next(iter(shards.looks.values()))).places[0]
    receipt = records_in(look.file).get("receipt")
    return _weights("folder", (), sizes, first.dtype, receipt)


def _distributed(look: Look) -> Survey:
    source = read_distributed(look.file)
    keys, items = model_items(list(source.tensors))
    if not items:
        what = "no model or weights are found in it"
        raise look.error(what, "run `modswap tree` on it to see what it holds")
    sizes = {name: (item.numel, item.nbytes) for name, item in items.items()}
    known = (item.dtype for item in items.values() if item.dtype in _DTYPES.values())
    receipt = records_in(look.file).get("receipt")
    return _weights("distributed", keys, sizes, next(known, "float32"), receipt)


def _weights(
    name: str,
    keys: tuple[str, ...],
    sizes: Mapping[str, tuple[int, int]],
    dtype: str,
    receipt: str | None,
) -> Survey:
    """Return what is known of weights by their names and sizes."""
    prefix = common_prefix(list(sizes))
    rows = implied_rows({name.removeprefix(prefix): size for name, size in sizes.items()})
    wards = tuple(_ward(row, dtype) for row in rows if row.path)
    place = Place(keys, "weights", prefix, dtype)
    return Survey(name, (place,), wards, (), rows[0].params, receipt=receipt)


def _ward(row: TreeRow, dtype: str) -> Ward:
    site = Site(row.path, row.class_name, params=row.params, nbytes=row.nbytes, dtype=dtype)
    return Ward(site)


def _pickled(look: Look, name: str, opened: Opened) -> Survey:
    found = list(places(opened.payload))
    if not found:
        what = "no model or weights are found in it"
        raise look.error(what, "run `modswap tree` on it to see what it holds")
    first = found[0]
    rows, _ = rows_of(first.value)
    alike = [one for one in found[1:] if _same(first, one)]
    kept = tuple(_place(one) for one in (first, *alike))
    receipt = _receipt(opened)
    total = rows[0].params
    if not is_module(first.value):
        wards = tuple(_ward(row, kept[0].dtype) for row in rows if row.path)
        return Survey(name, kept, wards, (), total, receipt=receipt)
    model, _ = without_wrappers(first.value)
    parameters = tuple(named_parameters(model))
    return Survey(name, kept, tuple(_wards(model, rows)), parameters, total, receipt=receipt)


def _receipt(opened: Opened) -> str | None:
    record = opened.archive.records.get(RECEIPT)
    if record is not None:
        return content(record).decode("utf-8", "replace")
    own = mapping((mapping(opened.payload) or {}).get(OWN_KEY)) or {}
    text = own.get("receipt")
    return text if isinstance(text, str) and text else None


def _same(first: FoundModel, other: FoundModel) -> bool:
    """Return whether a further place holds the same model, such as its average."""
    if is_module(first.value) != is_module(other.value):
        return False
    if is_module(first.value):
        return _paths(first.value) == _paths(other.value)
    return _bare(first.value) == _bare(other.value)


def _paths(module: Instance) -> list[tuple[str, str]]:
    return [(row.path, row.class_name) for row in rows_of(module)[0]]


def _bare(weights: Any) -> set[str]:
    names = list(mapping(weights) or {})
    prefix = common_prefix(names)
    return {name.removeprefix(prefix) for name in names} - {COUNTER}


def _place(found: FoundModel) -> Place:
    if is_module(found.value):
        model, prefix = without_wrappers(found.value)
        return Place(found.keys, "module", prefix, _dtype(dtypes_of(model)))
    named = mapping(found.value) or {}
    kinds = [parts.stored.dtype for parts in map(tensor_parts, named.values()) if parts]
    return Place(found.keys, "weights", common_prefix(list(named)), _dtype(iter(kinds)))


def _dtype(kinds: Iterator[str]) -> str:
    return next((_DTYPES[kind] for kind in kinds if kind in _DTYPES), "float32")


def _wards(model: Instance, rows: Sequence[TreeRow]) -> Iterator[Ward]:
    made = dict(named_modules(model))
    whole = _dtype(dtypes_of(model))
    aliases: dict[str, list[str]] = {}
    for row in rows:
        if row.alias_of:
            aliases.setdefault(row.alias_of, []).append(row.path)
    for row in rows:
        if not row.path or row.alias_of:
            continue
        module = made[row.path]
        parameters = list(named_parameters(module))
        sizes = sizes_of(module)
        yield Ward(
            Site(
                path=row.path,
                class_name=row.class_name,
                aliases=tuple(aliases.get(row.path, ())),
                layout=sizes.layout if sizes is not None else None,
                params=row.params,
                nbytes=row.nbytes,
                dtype=_dtype(dtypes_of(module)) if parameters else whole,
                training=bool(module.state.get("training")),
                trainable=not parameters or any(p.trainable for p in parameters),
            ),
            sizes,
            host_attributes(module),
        )

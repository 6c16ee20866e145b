"""The sites of a file of `torch.save`, from its pickle read as data."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from modswap.core.seen.site import Site
from modswap.core.seen.tree import TreeRow
from modswap.io.formats.survey import DTYPES, EMPTY, FilePlace, FileSite, Survey, WeightSizes
from modswap.io.formats.torch.rewrite import RECEIPT
from modswap.io.pickled.data import Instance
from modswap.io.pickled.modules import (
    dtypes_of,
    host_attributes,
    likely_parameters,
    named_parameters,
    sizes_of,
)
from modswap.io.pickled.opened import Opened, content, open_torch
from modswap.io.pickled.outline import FoundModel, places, rows_of, weight_sizes
from modswap.io.pickled.values import is_module, mapping, tensor_parts, without_wrappers
from modswap.io.pickled.walk import named_modules
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import COUNTER, OWN_KEY, common_prefix


def torch_survey(look: Look) -> Survey:
    """Return the sites of a file of `torch.save`: a zip, or from before torch 1.6.

    Raises:
        UnreadableError: If its pickle cannot be read as data.
        CheckpointError: If it is damaged, or holds no model.
    """
    opened = open_torch(look)
    name = "torch" if look.names else "torch (legacy)"
    found = list(places(opened.payload))
    if not found:
        raise look.error(*EMPTY)
    first = found[0]
    held = tuple(_place(one) for one in found if one is first or _same(first, one))
    receipt = _receipt(opened)
    if not is_module(first.value):
        weights = WeightSizes(name, weight_sizes(first.value), held[0].dtype)
        likely = tuple(likely_parameters(mapping(first.value) or {}, held[0].prefix))
        return replace(weights.survey(receipt), places=held, likely=likely)
    model, _ = without_wrappers(first.value)
    rows, _ = rows_of(model)
    parameters = tuple(named_parameters(model))
    sites = tuple(_sites(model, rows))
    return Survey(name, held, sites, parameters, rows[0].params, receipt=receipt)


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


def _place(found: FoundModel) -> FilePlace:
    if is_module(found.value):
        model, prefix = without_wrappers(found.value)
        return FilePlace(found.keys, "module", prefix, _dtype(dtypes_of(model)))
    named = mapping(found.value) or {}
    kinds = [parts.stored.dtype for parts in map(tensor_parts, named.values()) if parts]
    return FilePlace(found.keys, "weights", common_prefix(list(named)), _dtype(iter(kinds)))


def _dtype(kinds: Iterator[str]) -> str:
    return next((DTYPES[kind] for kind in kinds if kind in DTYPES), "float32")


def _sites(model: Instance, rows: Sequence[TreeRow]) -> Iterator[FileSite]:
    """Yield every module below the model, a shared one once."""
    modules = dict(named_modules(model))
    dtype = _dtype(dtypes_of(model))
    aliases: dict[str, list[str]] = {}
    for row in rows:
        aliases.setdefault(row.alias_of or row.path, []).extend([row.path] if row.alias_of else [])
    for row in rows:
        if row.path and not row.alias_of:
            yield _site(row, modules[row.path], tuple(aliases[row.path]), dtype)


def _site(row: TreeRow, module: Instance, aliases: tuple[str, ...], dtype: str) -> FileSite:
    parameters = list(named_parameters(module))
    sizes = sizes_of(module)
    site = Site(
        path=row.path,
        class_name=row.class_name,
        aliases=aliases,
        layout=sizes.layout if sizes is not None else None,
        params=row.params,
        nbytes=row.nbytes,
        dtype=_dtype(dtypes_of(module)) if parameters else dtype,
        training=bool(module.state.get("training")),
        trainable=not parameters or any(p.trainable for p in parameters),
    )
    return FileSite(site, sizes, host_attributes(module))

"""The module tree and the sites that a safetensors file implies, from its header alone."""

from typing import Any

from modswap.core.seen.tree import Tree
from modswap.io.formats.safetensors.header import METADATA, OTHER, RECEIPT, read_header
from modswap.io.formats.survey import DTYPES, Survey, WeightSizes
from modswap.io.recognise.dtypes import dtype_of
from modswap.io.recognise.implied_tree import TensorSize, elements
from modswap.io.recognise.look import Look, header_of_safetensors

_FLOATING = ("F", "BF", "C")  # beginnings of the names of dtypes


def safetensors_outline(look: Look) -> Tree | None:
    """Return the tree of a safetensors file; None if its header is malformed."""
    known = tensor_sizes(look)  # where it is malformed, `load` names the fault
    return None if known is None else WeightSizes("safetensors", known).tree(look.file)


def safetensors_survey(look: Look) -> Survey:
    """Return the sites of a safetensors file."""
    known = tensor_sizes(look)
    if known is None:
        what = "its header is damaged: an entry is no tensor, or no string"
        raise look.error(what, "save or download it again")
    header = read_header(look)
    dtypes = (DTYPES[t.dtype] for t in header.tensors.values() if t.dtype in DTYPES)
    own = {name: text for name, text in header.metadata.items() if name not in header.ties}
    metadata = {name: text for name, text in own.items() if name not in OTHER or name == "format"}
    found = WeightSizes("safetensors", known, next(dtypes, "float32"))
    return found.survey(own.get(RECEIPT), metadata)


def tensor_sizes(look: Look) -> dict[str, TensorSize] | None:
    """Return the size of every tensor; None if the header is malformed."""
    entries = header_of_safetensors(look)
    strings = entries.pop(METADATA, {})
    sizes = {name: _size(entry) for name, entry in entries.items()}
    known = {name: size for name, size in sizes.items() if size is not None}
    if not known or len(known) < len(sizes) or not _are_strings(strings):
        return None
    ties = read_header(look).ties
    tied = {name: known[name]._replace(identity=name) for name in ties.values()}
    return known | tied | {alias: tied[name] for alias, name in ties.items()}


def _are_strings(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())


def _size(entry: Any) -> TensorSize | None:
    """Return the size of a tensor."""
    match entry:
        case {
            "dtype": str() as dtype,
            "shape": list() as shape,
            "data_offsets": [int() as start, int() as end],
        }:
            numel = elements(shape)
            if numel is not None and end >= start:
                floating = dtype.startswith(_FLOATING)
                return TensorSize(numel, end - start, None, floating, dtype_of(dtype))
    return None

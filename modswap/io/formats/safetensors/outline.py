"""The module tree that a safetensors file implies, from its header alone."""

from typing import Any

from modswap.core.seen.tree import Tree
from modswap.io.recognise.implied_tree import WEIGHTS, elements, implied_rows
from modswap.io.recognise.look import Look, header_of_safetensors
from modswap.io.recognise.model_places import common_prefix


def safetensors_outline(look: Look) -> Tree | None:
    """Return the tree of a safetensors file; None if its header is not what it should be.

    Raises:
        CheckpointError: If the header is damaged.
    """
    known = tensor_sizes(look)
    if known is None:
        return None  # its own reader says what is wrong with it
    prefix = common_prefix(list(known))
    rows = implied_rows({name.removeprefix(prefix): size for name, size in known.items()})
    return Tree(str(look.file), "safetensors", rows, notes=(WEIGHTS,))


def tensor_sizes(look: Look) -> dict[str, tuple[int, int]] | None:
    """Return elements and bytes of every tensor; None if the header is not what it should be.

    Raises:
        CheckpointError: If the header is damaged.
    """
    header = header_of_safetensors(look)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    sizes = {name: _size(entry) for name, entry in entries.items()}
    known = {name: size for name, size in sizes.items() if size is not None}
    if not known or len(known) < len(sizes):
        return None
    ties = header.get("__metadata__")
    if isinstance(ties, dict):  # other names of a tensor, as safetensors' `save_model` has them
        known |= {
            a: known[b]
            for a, b in ties.items()
            if isinstance(b, str) and b in known and a not in known
        }
    return known


def _size(entry: Any) -> tuple[int, int] | None:
    """Return elements and bytes of a tensor."""
    match entry:
        case {"shape": list() as shape, "data_offsets": [int() as start, int() as end]}:
            numel = elements(shape)
            return None if numel is None or end < start else (numel, end - start)
    return None

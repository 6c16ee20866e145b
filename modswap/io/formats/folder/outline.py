"""The module tree that a folder of weights implies, from the headers of its files."""

from modswap.core.seen.tree import Tree
from modswap.io.formats.folder.shards import read_shards
from modswap.io.formats.safetensors.outline import tensor_sizes
from modswap.io.pickled.data import UnreadableError
from modswap.io.pickled.outline import payload_of, weight_sizes
from modswap.io.recognise.implied_tree import WEIGHTS, implied_rows
from modswap.io.recognise.look import Look, is_safetensors
from modswap.io.recognise.model_places import common_prefix


def folder_outline(look: Look) -> Tree | None:
    """Return the tree of a folder; None if a file in it cannot be read as data.

    Raises:
        CheckpointError: If its index or a file is damaged.
    """
    try:
        known = folder_sizes(look)
    except (UnreadableError, RecursionError):
        return None  # its own reader says what is wrong with it
    prefix = common_prefix(list(known))
    rows = implied_rows({name.removeprefix(prefix): size for name, size in known.items()})
    return Tree(str(look.file), "folder", rows, notes=(WEIGHTS,))


def folder_sizes(look: Look) -> dict[str, tuple[int, int]]:
    """Return elements and bytes of every tensor in a folder.

    Raises:
        UnreadableError: If a pickle in it cannot be read as data.
        CheckpointError: If its index or a file is damaged.
    """
    known: dict[str, tuple[int, int]] = {}
    for shard in read_shards(look).looks.values():
        held = tensor_sizes(shard) if is_safetensors(shard) else None
        known |= weight_sizes(payload_of(shard)[0]) if held is None else held
    return known

"""The module tree that a distributed checkpoint implies, from its metadata."""

from typing import Any

from modswap.core.seen.tree import Tree
from modswap.io.formats.distributed.metadata import Item, read_distributed
from modswap.io.recognise.implied_tree import WEIGHTS, implied_rows
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import KEYS, common_prefix


def distributed_outline(look: Look) -> Tree:
    """Return the tree of a distributed checkpoint.

    Raises:
        CheckpointError: If its metadata are damaged.
        UnsafeError: If they would build what such metadata are not made of.
    """
    _, named = model_items(list(read_distributed(look.file).tensors))
    prefix = common_prefix(list(named))
    sizes = {n.removeprefix(prefix): (item.numel, item.nbytes) for n, item in named.items()}
    return Tree(str(look.file), "distributed", implied_rows(sizes), notes=(WEIGHTS,))


def model_items(items: list[Item]) -> tuple[tuple[Any, ...], dict[str, Item]]:
    """Return the keys down to the model's weights, and the items of those by name."""
    keys = _place(items)
    return keys, {str(item.keys[-1]): item for item in items if item.keys[:-1] == keys}


def _place(items: list[Item]) -> tuple[Any, ...]:
    """Return the keys down to the model's weights."""
    held = {item.keys[:-1] for item in items}
    for key in KEYS:
        for keys in ((key,), *((key, inner) for inner in KEYS)):
            if keys in held:
                return keys
    return ()

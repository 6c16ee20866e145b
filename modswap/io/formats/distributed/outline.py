"""The module tree and the sites that a distributed checkpoint implies, from its metadata."""

from typing import Any

from modswap.core.budget import SHORTER_NAMES, names_flaw
from modswap.core.seen.tree import Tree
from modswap.io.formats.distributed.metadata import Item, read_distributed
from modswap.io.formats.survey import DTYPES, EMPTY, Survey, WeightSizes
from modswap.io.pickled.values import takes_gradients
from modswap.io.raw.folder_files import own_records
from modswap.io.recognise.implied_tree import TensorSize
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import KEYS


def distributed_outline(look: Look) -> Tree:
    """Return the tree of a distributed checkpoint."""
    return _weights(look).tree(look.file)


def distributed_survey(look: Look) -> Survey:
    """Return the sites of a distributed checkpoint.

    Raises:
        CheckpointError: If its metadata are damaged, or it holds no model.
    """
    found = _weights(look)
    if not found.sizes:
        raise look.error(*EMPTY)
    return found.survey((own_records(look.file) or {}).get("receipt"))


def _weights(look: Look) -> WeightSizes:
    items = list(read_distributed(look.file).tensors)
    keys = model_keys(items)
    named = {str(item.keys[-1]): item for item in items if item.keys[:-1] == keys}
    if flaw := names_flaw(named):
        raise look.error(flaw, SHORTER_NAMES)
    sizes = {
        name: TensorSize(item.numel, item.nbytes, None, takes_gradients(item.dtype), item.dtype)
        for name, item in named.items()
    }
    dtypes = (item.dtype for item in named.values() if item.dtype in DTYPES.values())
    return WeightSizes("distributed", sizes, next(dtypes, "float32"), keys)


def model_keys(items: list[Item]) -> tuple[Any, ...]:
    """Return the keys down to the model's weights."""
    held = {item.keys[:-1] for item in items}
    for key in KEYS:
        for keys in ((key,), *((key, inner) for inner in KEYS)):
            if keys in held:
                return keys
    return ()

"""The module tree and the sites that a folder of weights implies, from the headers of its files."""

from dataclasses import replace

from modswap.core.errors import CheckpointError
from modswap.core.seen.tree import Tree
from modswap.io.formats.folder.shards import read_shards, records_in
from modswap.io.formats.safetensors.outline import safetensors_survey, tensor_sizes
from modswap.io.formats.survey import Survey, WeightSizes
from modswap.io.formats.torch.outline import torch_survey
from modswap.io.pickled.data import UnreadableError
from modswap.io.pickled.outline import affordable_payload, weight_sizes
from modswap.io.recognise.implied_tree import TensorSize
from modswap.io.recognise.look import Look, is_safetensors
from modswap.io.recognise.small_files import MAX_CONFIG_BYTES, read_json


def folder_outline(look: Look) -> Tree | None:
    """Return the tree of a folder; None if a file in it cannot be read as data."""
    try:
        tree = WeightSizes("folder", _sizes(look)).tree(look.file)
    except (UnreadableError, RecursionError):
        return None  # `load` names the fault
    named = _architecture(look)
    if not named:
        return tree
    note = f"config.json names {named}, whose modules may have other names than the file: "
    return replace(tree, notes=(*tree.notes, f"{note}`--input SHAPE` builds it and shows both"))


def _architecture(look: Look) -> str:
    """Return the class of transformers that a folder's config.json names; empty for none."""
    try:
        config = read_json(look.file / "config.json", MAX_CONFIG_BYTES, folder=look.file)
    except (FileNotFoundError, CheckpointError):
        return ""  # the commands that build the model name the fault
    match config:
        case {"architectures": [str() as name, *_], "model_type": str()} if name.isidentifier():
            return name[:80]
    return ""


def folder_survey(look: Look) -> Survey:
    """Return the sites of a folder.

    Raises:
        UnreadableError: If a pickle in it cannot be read as data.
    """
    shard = next(iter(read_shards(look).looks.values()))  # all of its files have one dtype
    first = (safetensors_survey if is_safetensors(shard) else torch_survey)(shard).places[0]
    sizes = WeightSizes("folder", _sizes(look), first.dtype)
    return sizes.survey(records_in(look.file).get("receipt"))


def _sizes(look: Look) -> dict[str, TensorSize]:
    """Return the size of every tensor in a folder."""
    known: dict[str, TensorSize] = {}
    for number, shard in enumerate(read_shards(look).looks.values()):
        held = tensor_sizes(shard) if is_safetensors(shard) else None
        found = weight_sizes(affordable_payload(shard)[0]) if held is None else held
        known |= {name: _of_shard(number, size) for name, size in found.items()}
    return known


def _of_shard(number: int, size: TensorSize) -> TensorSize:
    """Return a size whose identity is that of a tensor in one of several files."""
    own = None if size.identity is None else (number, size.identity)
    return size._replace(identity=own)

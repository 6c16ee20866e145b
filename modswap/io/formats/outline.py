"""What a checkpoint holds, read as data: without torch, and without the classes that it names."""

from pathlib import Path

from modswap.core.seen.tree import Tree
from modswap.io.formats.distributed.metadata import is_distributed
from modswap.io.formats.distributed.outline import distributed_outline
from modswap.io.formats.folder.outline import folder_outline
from modswap.io.formats.folder.shards import is_folder
from modswap.io.formats.safetensors.outline import safetensors_outline
from modswap.io.pickled.outline import torch_outline
from modswap.io.recognise.look import is_safetensors, is_torch_legacy, is_torch_zip, look_at


def outline(file: Path) -> Tree | None:
    """Return the module tree of a file; None if it is of a kind that only torch can read.

    Args:
        file: The file.

    Raises:
        CheckpointError: If there is no such file, or it is damaged.
    """
    look = look_at(file)
    if is_torch_zip(look) or is_torch_legacy(look):
        return torch_outline(look)
    if is_distributed(look):
        return distributed_outline(look)
    if is_folder(look):
        return folder_outline(look)
    if is_safetensors(look):
        return safetensors_outline(look)
    return None

"""What a checkpoint holds, read as data: without torch, and without the classes that it names."""

from pathlib import Path

from modswap.core.tree import Tree
from modswap.io.outline.distributed import distributed_outline
from modswap.io.outline.distributed_metadata import is_distributed
from modswap.io.outline.folder import folder_outline
from modswap.io.outline.safetensors_header import safetensors_outline
from modswap.io.outline.torch_zip import torch_outline
from modswap.io.recognise import is_safetensors, is_torch_legacy, is_torch_zip, look_at
from modswap.io.shards import is_folder


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

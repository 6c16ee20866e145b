"""The tensors of a fit in progress: several processes write a folder beside the resume file.

It is a folder of `torch.distributed.checkpoint`, in which each process writes the parts that it
holds. It is read as data, whole, by any number of processes.
"""

import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch

from modswap.io.formats.distributed.load import read_tensor
from modswap.io.formats.distributed.metadata import read_distributed
from modswap.live_values import map_leaves, map_tensors
from modswap.ops.heal import ranks

_FOLDER = re.compile(r"[^/\0]+\.parts-[0-9a-f]{8}")
_MARK = "modswap.part:"  # and a number, in the place of a tensor


def new_folder(file: Path) -> Path:
    """Return the place of another folder beside a resume file."""
    return file.with_name(f"{file.name}.parts-{secrets.token_hex(4)}")


def is_folder(name: str) -> bool:
    """Return whether a folder has a name as `new_folder` makes it."""
    return _FOLDER.fullmatch(name) is not None


def save_parts(folder: Path, state: Any) -> Any:
    """Write the tensors of a state, all processes together; return the rest of it."""
    from torch.distributed.checkpoint.state_dict_saver import save  # takes seconds

    tensors: dict[str, torch.Tensor] = {}

    def mark(tensor: torch.Tensor) -> str:
        name = f"{_MARK}{len(tensors)}"
        tensors[name] = tensor
        return name

    rest = map_tensors(mark, state)
    with ranks.heard():
        save(tensors, checkpoint_id=folder)
    return rest


def load_parts(folder: Path, rest: Any) -> Any:
    """Return a state with its tensors.

    Raises:
        CheckpointError: If the folder is damaged.
        UnsafeError: If it is none of tensors alone.
    """
    source = read_distributed(folder)

    def tensor(leaf: Any) -> Any:
        marked = isinstance(leaf, str) and leaf.startswith(_MARK)
        return read_tensor(source, source.items[leaf]) if marked else leaf

    return map_leaves(tensor, rest)


def remove_folders(file: Path, but: str = "") -> None:
    """Remove the folders beside a resume file, but for the one that it names."""
    for one in file.absolute().parent.iterdir():
        own = is_folder(one.name) and one.name.startswith(f"{file.name}.parts-")
        if own and one.name != but and not one.is_symlink():
            shutil.rmtree(one, ignore_errors=True)

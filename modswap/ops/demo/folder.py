"""The folder of the demonstration, and the checkpoints in it."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from modswap.core.errors import CheckpointError
from modswap.io.formats.torch.save import unsaved
from modswap.io.raw.atomic import refused, replacing
from modswap.ops.demo.network import GatedUNetPlusPlus

WHOLE, TRAINING, SWAPPED = "unetpp.pt", "unetpp-training.pt", "unetpp-bra.pt"
HEALED, SCENES = "unetpp-healed.pt", "scenes.npy"
_OWN = (WHOLE, TRAINING, SWAPPED, HEALED, SCENES)
_HEAD_BYTES = 1 << 20


def prepare_folder(folder: Path) -> None:
    """Make the folder where it is missing.

    Raises:
        CheckpointError: If it cannot be made, or a file that would be overwritten is another's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = _files_of_others(folder)
    except OSError as error:
        raise refused(folder, error) from error
    if found:
        what = "the demonstration would overwrite it, and did not write it"
        raise CheckpointError(what, str(folder / found[0]), "name another folder")


def _files_of_others(folder: Path) -> list[str]:
    """Return the names that are taken by links, by folders, or by files of other programs."""
    taken = [name for name in _OWN if os.path.lexists(folder / name)]
    odd = [n for n in taken if (folder / n).is_symlink() or not (folder / n).is_file()]
    return odd or ([] if _is_own(folder / WHOLE) else taken)


def _is_own(file: Path) -> bool:
    """Return whether a file names the network of the demonstration."""
    with suppress(FileNotFoundError), file.open("rb") as stream:
        return GatedUNetPlusPlus.__module__.encode() in stream.read(_HEAD_BYTES)
    return False


def write_checkpoints(network: GatedUNetPlusPlus, optimizer: dict[str, Any], folder: Path) -> Path:
    """Write the network as a whole module and as a training checkpoint; return the first."""
    _write(network, folder / WHOLE)
    state = {"epoch": 1, "model_state_dict": network.state_dict(), "optimizer": optimizer}
    _write(state, folder / TRAINING)
    return folder / WHOLE


def write_scenes(images: torch.Tensor, folder: Path) -> Path:
    """Write images, without what is in them, as an array of NumPy; return the file."""
    import numpy as np  # scikit-learn, which holds the digits, brings it along

    file = folder / SCENES
    with replacing(file, force=True) as temporary, temporary.open("wb") as stream:
        np.save(stream, images.numpy())
    return file


def _write(value: object, file: Path) -> None:
    with replacing(file, force=True) as temporary, temporary.open("wb") as stream:
        try:
            torch.serialization.save(value, stream)
        except RuntimeError as error:  # as torch reports a full disk
            raise unsaved(error) from error

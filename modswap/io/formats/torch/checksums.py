"""The checksums of a file of `torch.save`, with the names of the tensors in each record."""

from collections import defaultdict
from dataclasses import replace
from functools import partial

from modswap.io.pickled.data import UnreadableError
from modswap.io.pickled.opened import open_torch
from modswap.io.pickled.storages import DATA
from modswap.io.pickled.values import tensor_parts
from modswap.io.pickled.walk import named_tensors
from modswap.io.raw.checksums import Checksums, zip_checksums
from modswap.io.recognise.look import Look


def torch_checksums(look: Look) -> Checksums:
    """Return the checksums of the records of a zip of `torch.save`.

    Raises:
        CheckpointError: If its records are compressed.
    """
    return replace(zip_checksums(look), names=partial(_names, look))


def _names(look: Look) -> dict[str, str]:
    """Return the names of the tensors in each record; nothing if the pickle is unreadable."""
    try:
        opened = open_torch(look)
    except (UnreadableError, RecursionError):
        return {}
    found: dict[str, list[str]] = defaultdict(list)
    for name, value in named_tensors(opened.payload):
        tensor = tensor_parts(value)
        if tensor is not None:
            found[f"{opened.archive.root}/{DATA}{tensor.stored.key}"].append(name)
    return {record: ", ".join(names[:8]) for record, names in found.items()}

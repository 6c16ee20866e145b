"""The models of a file that holds the model more than once, such as an average beside it."""

import copy
from dataclasses import replace

import torch

from modswap.core.errors import CheckpointError
from modswap.io.formats.container import Slot
from modswap.live_values import named_tensors
from modswap.ops.load.model import Loaded


def models_of_slots(loaded: Loaded) -> tuple[Loaded, ...]:
    """Return the model of each slot, in their order; the first is the loaded one itself.

    Raises:
        CheckpointError: If tensors of the model are made of several in the file, so that those of
            copies are not known.
    """
    others = loaded.container.slots[1:]
    weights = [slot for slot in others if slot.kind == "weights"]
    sources = loaded.stored.sources.values() if loaded.stored is not None else ()
    if weights and any(len(names) != 1 for names in sources):
        what = f"it holds the model again under {key_of(weights[0])!r}, by tensors that its library"
        what += " converts"
        raise CheckpointError(what, str(loaded.container.file), "save the one that you want alone")
    return (loaded, *(_model_of(slot, loaded) for slot in others))


def key_of(slot: Slot) -> str:
    """Return the key of a slot, as messages show it."""
    return ".".join(slot.keys)


def _model_of(slot: Slot, loaded: Loaded) -> Loaded:
    if slot.kind == "module":
        return replace(loaded, model=slot.value)
    model = copy.deepcopy(loaded.model)
    sources = loaded.stored.sources if loaded.stored is not None else {}
    with torch.no_grad():
        for name, tensor in named_tensors(model).items():
            held = next(iter(sources.get(name, ())), name)
            if held in slot.value:
                tensor.copy_(slot.value[held])
    return replace(loaded, model=model)

"""Write files of `torch.save`, anew or with other modules in them."""

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.io.formats.container import Container, is_weights
from modswap.io.formats.format import Swap, Swaps
from modswap.io.formats.torch.allow import resolve
from modswap.io.formats.torch.rewrite import RECEIPT, RECIPE, ZipRewriting
from modswap.io.formats.torch.states import Known, named_in, refuse_planted
from modswap.io.pickled.data import Instance
from modswap.io.pickled.opened import Opened, open_torch
from modswap.io.pickled.walk import everything
from modswap.io.recognise.look import look_at
from modswap.io.recognise.model_places import OWN_KEY
from modswap.io.rewriting import Graft, Records, Removal, Rewriting


def rewrite(container: Container, swaps: Swaps, policy: Policy) -> Rewriting:
    """Prepare the same file with other modules in it; an old file becomes a zip."""
    opened = open_torch(look_at(container.file))
    if not policy.trust:
        _refuse_planted(opened, policy)
    grafts = [_graft(swap) for swap in swaps.slots]
    return ZipRewriting(opened, grafts, swaps.parameters, swaps.changes, trust=policy.trust)


def _refuse_planted(opened: Opened, policy: Policy) -> None:
    """Refuse attributes that would run as code; import none of the classes that a user allows."""
    file = opened.look.file
    objects: dict[str, Any] = {}
    for name in dict.fromkeys(map(str, opened.names)):
        with suppress(UnsafeError):
            objects |= {known: value for value, known in resolve([name], Policy(), file)}
    made = [value for value in everything(opened.payload) if isinstance(value, Instance)]
    refuse_planted(made, Known(objects, named_in(policy)), file)


def _graft(swap: Swap) -> Graft:
    """Return new modules as data."""
    modules = [module for _, module in swap.modules]
    whole = swap.slot.kind == "module"
    packed = modules if whole else [module.state_dict() for module in modules]
    if swap.names is not None:
        packed = [swap.weights]
    stream = BytesIO()
    try:
        torch.serialization.save(packed, stream)
    except Exception as error:  # pickling runs the classes' own code, which may raise anything
        raise unsaved(error) from error
    paths = tuple(paths for paths, _ in swap.modules)
    slot, named = swap.slot, swap.names is not None
    more = _in_slot(swap) if named else swap.more
    return Graft(slot.keys, slot.prefix, paths, stream.getvalue(), more, named, swap.taken)


def _in_slot(swap: Swap) -> Removal:
    """Return the tensors that are removed, by their names in the value of the slot."""
    place = len("".join(f"{key}." for key in swap.slot.keys))
    removal = swap.removal
    return Removal(
        tuple(prefix[place:] for prefix in removal.prefixes),
        frozenset(name[place:] for name in removal.names),
        {alias[place:]: name[place:] for alias, name in removal.heirs.items()},
    )


def save(payload: Any, file: Path, records: Records, metadata: dict[str, str]) -> None:
    """Write a payload as a zip of `torch.save`, with modswap's records in it."""
    del metadata
    inside = isinstance(payload, Mapping) and not is_weights(payload)
    if inside and (records.recipe or records.receipt):
        payload = payload.copy()
        payload[OWN_KEY] = asdict(records)
    try:
        with file.open("wb") as stream:
            # through a stream: by name, torch would write the temporary name into the archive
            torch.serialization.save(payload, stream)
    except Exception as error:  # pickling runs the classes' own code, which may raise anything
        raise unsaved(error) from error
    if not inside:
        _append(file, records)


def unsaved(error: Exception) -> Exception:
    """Return the error for a failed write of torch; the cause of it may be a full disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split())
    if "unexpected pos" in text or "PytorchStreamWriter" in text or "inline_container" in text:
        return OSError(28, "No space left on device")
    what = f"torch cannot write it: {type(error).__name__}: {text[:200]}"
    return CheckpointError(what, fix="write the weights instead: name OUT.safetensors")


def _append(file: Path, records: Records) -> None:
    """Add modswap's records to the archive, where other readers pass them over."""
    with zipfile.ZipFile(file, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        for name, text in records.named(RECIPE, RECEIPT).items():
            # a fixed date: the same swap gives the same bytes
            archive.writestr(zipfile.ZipInfo(f"{root}/{name}", (1980, 1, 1, 0, 0, 0)), text)

"""Files of `torch.save`, read by its safe unpickler only."""

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.sparse import check_sparse_tensor_invariants

from modswap.core.errors import CheckpointError, ModswapError, UnsafeError
from modswap.core.job import Policy
from modswap.io.formats.allow import DANGEROUS, resolve
from modswap.io.formats.container import OWN_KEY, Container, find_slots, is_weights
from modswap.io.formats.format import Format, Records
from modswap.io.formats.recognise import Look, is_torch_legacy, is_torch_zip

RECIPE, RECEIPT = "modswap/recipe.yaml", "modswap/receipt.json"
TRUSTED = (
    "loaded by torch's full unpickler (--trust): any code in the file was run with your rights"
)
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_WANTED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


def load_zip(look: Look, policy: Policy) -> Container:
    """Read a zip file of `torch.save`, its tensors mapped and not copied."""
    payload = _read(look, policy, mmap=True)
    container = _container("torch", payload, look, policy)
    with zipfile.ZipFile(look.file) as archive:
        found = {
            record: archive.read(name).decode("utf-8", "replace")
            for name in archive.namelist()
            for record in (RECIPE, RECEIPT)
            if name.endswith(f"/{record}")
        }
    if found:
        container = replace(container, recipe=found.get(RECIPE), receipt=found.get(RECEIPT))
    return container


def load_legacy(look: Look, policy: Policy) -> Container:
    """Read a file of `torch.save` from before version 1.6, into memory."""
    return _container("torch (legacy)", _read(look, policy, mmap=False), look, policy)


def _container(name: str, payload: Any, look: Look, policy: Policy) -> Container:
    own = payload.get(OWN_KEY) if isinstance(payload, Mapping) else None
    records = own if isinstance(own, Mapping) else {}
    return Container(
        format=name,
        file=look.file,
        payload=payload,
        slots=find_slots(payload, look.file),
        recipe=_text(records.get("recipe")),
        receipt=_text(records.get("receipt")),
        notes=(TRUSTED,) if policy.trust else (),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _read(look: Look, policy: Policy, *, mmap: bool) -> Any:
    allowed = [] if policy.trust else resolve(_wanted(look, mmap=mmap), policy, look.file)
    # indices outside a sparse tensor are not checked by default, and crash a later operation
    checked = check_sparse_tensor_invariants(enable=True)
    with torch.serialization.safe_globals([*allowed]), checked:
        try:
            # the one place where a pickle is read: weights_only builds what was allowed above and
            # nothing else, unless the user asked for the full unpickler
            return torch.load(  # noqa: TID251
                look.file, map_location="cpu", mmap=mmap, weights_only=not policy.trust
            )
        except Exception as error:
            raise _explained(look, error) from error


def _wanted(look: Look, *, mmap: bool) -> list[str]:
    """Return every name that a file wants and torch does not allow by itself; builds nothing."""
    if not mmap:
        return []  # torch lists them for zip files only; the unpickler refuses what is not allowed
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(look.file)
    except Exception as error:
        raise _explained(look, error) from error


def _explained(look: Look, error: Exception) -> ModswapError:
    """Return the error for whatever torch says about a file that it cannot read."""
    text = " ".join(_COLORS.sub("", str(error)).split())
    text = text.rpartition("WeightsUnpickler error: ")[2]
    wanted = _WANTED.search(text)
    if wanted and wanted[1].split(".")[0] in DANGEROUS:
        what = f"to load it, {wanted[1]} would have to be called, which can run any code"
        return UnsafeError(what, str(look.file), "do not load it unless it is your own")
    if wanted or "Only persistent_load of storage is allowed" in text:
        what = "it is a whole module in the format of before torch 1.6, which cannot be read safely"
        fix = "load it where it was made and save it again; a file of your own: --trust"
        return look.error(what, fix)
    if isinstance(error, (AttributeError, ImportError)):
        what = f"it needs code that is not here: {text[:200]}"
        return look.error(what, "install its package, or say where it is: --alias OLD=NEW")
    if isinstance(error, UnpicklingError):
        what = f"its pickle asks for what a safe reader does not do: {text[:160]}"
        fix = "save the state dict instead; a file of your own making: --trust"
        return look.error(what, fix)
    what = f"it is damaged or cut short: {type(error).__name__}: {text[:160]}"
    return look.error(what, "save or download it again")


def save(payload: Any, file: Path, records: Records, metadata: dict[str, str]) -> None:
    """Write a payload as a zip of `torch.save`, with modswap's records in it.

    Args:
        payload: A module, a state dict or a training dictionary.
        file: Where to write.
        records: The recipe and the receipt.
        metadata: Passed over: this format has none.
    """
    del metadata
    inside = isinstance(payload, Mapping) and not is_weights(payload)
    if inside and (records.recipe or records.receipt):
        own = {OWN_KEY: {"recipe": records.recipe, "receipt": records.receipt}}
        payload = {**payload, **own} if type(payload) is dict else _updated(payload, own)
    try:
        with file.open("wb") as stream:
            # through a stream: by name, torch would write the temporary name into the archive
            torch.save(payload, stream)
    except (AttributeError, TypeError, RuntimeError, io.UnsupportedOperation) as error:
        raise _unsaved(file, error) from error
    if not inside:
        _append(file, records)


def _updated(payload: Any, own: Mapping[str, Any]) -> Any:
    copy = payload.copy()
    copy.update(own)
    return copy


def _unsaved(file: Path, error: Exception) -> Exception:
    """Return the error for what torch could not write; a full disk shows in its cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split())
    if "unexpected pos" in text or "PytorchStreamWriter" in text or "inline_container" in text:
        return OSError(28, "No space left on device")
    what = f"torch cannot write it: {type(error).__name__}: {text[:200]}"
    return CheckpointError(what, file.name, "write the weights instead: name OUT.safetensors")


def _append(file: Path, records: Records) -> None:
    """Add modswap's records to the archive, where other readers pass them over."""
    with zipfile.ZipFile(file, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        for name, text in ((RECIPE, records.recipe), (RECEIPT, records.receipt)):
            if text:
                # a fixed date: the same swap gives the same bytes
                archive.writestr(zipfile.ZipInfo(f"{root}/{name}", (1980, 1, 1, 0, 0, 0)), text)


TORCH = Format("torch", (".pt", ".pth", ".ckpt", ".bin"), is_torch_zip, load_zip, save)
TORCH_LEGACY = Format("torch (legacy)", (), is_torch_legacy, load_legacy, save)

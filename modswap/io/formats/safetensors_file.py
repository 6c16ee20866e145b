"""safetensors: named tensors and a dictionary of strings, nothing that could run."""

import json
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from modswap.core.errors import CheckpointError
from modswap.core.job import Policy
from modswap.io.formats.container import Container, find_slots
from modswap.io.formats.format import Format, Records
from modswap.io.recognise import Look, header_of_safetensors, is_safetensors

RECIPE, RECEIPT = "modswap.recipe", "modswap.receipt"
_OTHER = (RECIPE, RECEIPT, "format")  # metadata that are no ties, whatever tensors are called
_OS_ERROR = re.compile(r"os error (\d+)")


def load(look: Look, policy: Policy) -> Container:
    """Read a safetensors file, its tensors mapped and not copied; ties come back as ties."""
    del policy  # nothing in such a file can run
    header_of_safetensors(look)
    weights: dict[str, torch.Tensor] = {}
    try:
        with safe_open(look.file, framework="pt", device="cpu") as opened:
            metadata = dict(opened.metadata() or {})
            for name in opened.keys():  # noqa: SIM118 - no dictionary
                weights[name] = opened.get_tensor(name)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        what = f"it is damaged or cut short: {' '.join(str(error).split())[:160]}"
        raise look.error(what, "save or download it again") from None
    if not weights:
        raise look.error("it holds no tensors", "save or download it again")
    ties = {
        a: b for a, b in metadata.items() if a not in weights and b in weights and a not in _OTHER
    }
    weights.update({alias: weights[stored] for alias, stored in ties.items()})
    recipe, receipt = metadata.pop(RECIPE, None), metadata.pop(RECEIPT, None)
    kept = {name: text for name, text in metadata.items() if name not in ties}
    slots = find_slots(weights, look.file)
    return Container("safetensors", look.file, weights, slots, kept, recipe, receipt)


def save(payload: Any, file: Path, records: Records, metadata: dict[str, str]) -> None:
    """Write named tensors; a tensor with several names is stored once.

    The other names go into the metadata, as safetensors' own `save_model` has it.

    Args:
        payload: Tensors by name.
        file: Where to write.
        records: The recipe and the receipt.
        metadata: The file's own metadata.

    Raises:
        CheckpointError: If a tensor is of a kind that the format has no room for.
    """
    stored, ties = _untied(payload, {*metadata, *_OTHER})
    own = {RECIPE: records.recipe, RECEIPT: records.receipt}
    written = {**metadata, **{name: text for name, text in own.items() if text}, **ties}
    try:
        save_file(stored, file, metadata=written)
    except (SafetensorError, NotImplementedError, ValueError) as error:
        number = _OS_ERROR.search(str(error))
        if number:
            raise OSError(int(number[1]), str(error)) from error
        what = f"safetensors cannot hold it: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(what, fix="name OUT.pt instead") from error
    _sort_metadata(file)


def _sort_metadata(file: Path) -> None:
    """Put the metadata in order, which its writer shuffles: the same swap gives the same bytes."""
    with file.open("rb+") as stream:
        header = stream.read(int.from_bytes(stream.read(8), "little"))
        metadata = json.loads(header).get("__metadata__", {})
        # the same items in another order take as many bytes
        stream.seek(8)
        stream.write(
            header.replace(_compact(metadata), _compact(dict(sorted(metadata.items()))), 1)
        )


def _compact(metadata: dict[str, str]) -> bytes:
    return json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode()


def _untied(
    payload: Mapping[str, Any], taken: Set[str]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors to store, and for every further name the one it is stored under.

    A further name that the metadata has `taken` already is stored as a tensor of its own.
    """
    stored: dict[str, torch.Tensor] = {}
    ties: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    for name, value in payload.items():
        if name == "__metadata__":
            what = f"a tensor is called {name!r}, which means something else to safetensors"
            raise CheckpointError(what, fix="name OUT.pt instead")
        if not isinstance(value, torch.Tensor):
            what = f"{name!r} is {type(value).__name__}, and safetensors hold tensors only"
            raise CheckpointError(what, fix="name OUT.pt instead")
        if value.layout is not torch.strided or value.is_quantized or value.is_nested:
            what = f"{name!r} is a {_kind(value)} tensor, which safetensors cannot hold"
            raise CheckpointError(what, fix="name OUT.pt instead")
        # views that conjugate or negate their storage: the format takes what they show
        tensor = value.detach().resolve_conj().resolve_neg()
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in first and name not in taken:
            ties[name] = first[key]
            continue
        first[key] = name
        pointer = tensor.untyped_storage().data_ptr()
        # views of one storage: the format takes whole, separate tensors
        apart = tensor.contiguous() if pointer not in storages else tensor.clone().contiguous()
        storages.add(pointer)
        stored[name] = apart
    return stored, ties


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_quantized:
        return "quantized"
    return "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")


SAFETENSORS = Format(
    "safetensors", (".safetensors",), is_safetensors, load, save, weights_only=True
)

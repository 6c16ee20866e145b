"""Write safetensors files, anew or with other tensors in them."""

import ctypes
import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save as serialized

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError
from modswap.io.formats.container import Container
from modswap.io.formats.format import Swaps
from modswap.io.formats.safetensors.digests import file_checksums, sealed
from modswap.io.formats.safetensors.header import ITEMS, METADATA, OTHER, RECEIPT, RECIPE, Header
from modswap.io.formats.safetensors.rewrite import Added, NamedRewriting, write_named
from modswap.io.raw.checksums import Checksums, refuse_difference
from modswap.io.recognise.look import Look, look_at
from modswap.io.rewriting import Records, Rewriting

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def save(payload: Any, file: Path, records: Records, metadata: dict[str, str]) -> None:
    """Write named tensors into an empty file; a tensor with several names is stored once.

    The other names go into the metadata, as safetensors' own `save_model` has it.

    Raises:
        CheckpointError: If a tensor is of a kind that the format has no room for.
    """
    added, ties = pack(payload, {*metadata, *OTHER})
    written = {**metadata, **records.named(RECIPE, RECEIPT), **ties}
    # the order that safetensors' own writer has: tensors that need the strictest alignment first
    ordered = sorted(added.items(), key=lambda item: (-ITEMS.get(item[1].dtype, 1), item[0]))
    tensors = {name: tensor.stored for name, tensor in ordered}
    write_named(sealed(Header(tensors, dict(sorted(written.items())))), file)


def rewrite(container: Container, swaps: Swaps, policy: Policy) -> Rewriting:
    """Prepare the same file with other tensors in it."""
    look = look_at(container.file)
    return rewrite_known(container, swaps, policy, look, file_checksums(look))


def rewrite_known(
    container: Container, swaps: Swaps, policy: Policy, look: Look, known: Checksums
) -> NamedRewriting:
    """Prepare a file whose tensors have known checksums.

    Raises:
        CheckpointError: If its header differs from its checksum.
    """
    if policy.checksum and not known.stale:
        refuse_difference(known.differences)
    (swap,) = swaps.slots
    added, ties = pack(swap.weights, {*container.metadata, *OTHER})
    return NamedRewriting(look, swap.removal, added, ties, known)


def pack(payload: Mapping[str, Any], taken: Set[str]) -> tuple[dict[str, Added], dict[str, str]]:
    """Return tensors as they are stored, and for each further name the one it is stored under.

    No tie can have a name that the metadata has `taken`.

    Raises:
        CheckpointError: If a tensor is of a kind that the format has no room for.
    """
    stored, ties = _untied(payload, taken)
    return {name: _added(name, tensor) for name, tensor in stored.items()}, ties


def _added(name: str, tensor: torch.Tensor) -> Added:
    dtype = _DTYPES.get(tensor.dtype)
    try:
        if dtype is None:  # a rare one: its own writer knows how it is called and packed
            data = memoryview(serialized({"x": tensor}))
            length = int.from_bytes(data[:8], "little")
            entry = json.loads(bytes(data[8 : 8 + length]))["x"]
            return Added(entry["dtype"], tuple(entry["shape"]), data[8 + length :])
        nbytes = tensor.numel() * tensor.element_size()
        array = (ctypes.c_char * nbytes).from_address(tensor.data_ptr() if nbytes else 0)
    except (SafetensorError, NotImplementedError, KeyError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        what = f"safetensors cannot hold {name!r}: {type(error).__name__}: {text}"
        raise CheckpointError(what, fix="name OUT.pt instead") from error
    return Added(dtype, tuple(tensor.shape), memoryview(array).cast("B"), tensor)


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
        _refuse_foreign(name, value)
        # the format takes the values of views that conjugate or negate their storage
        tensor = value.detach().cpu().resolve_conj().resolve_neg()
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in first and name not in taken:
            ties[name] = first[key]
            continue
        first[key] = name
        pointer = tensor.untyped_storage().data_ptr()
        # views of one storage: the format takes whole, separate tensors
        stored[name] = (tensor.clone() if pointer in storages else tensor).contiguous()
        storages.add(pointer)
    return stored, ties


def _refuse_foreign(name: str, value: Any) -> None:
    """Refuse a value that the format has no room for."""
    kind = _kind(value) if isinstance(value, torch.Tensor) else ""
    if name == METADATA:
        what = f"a tensor is called {name!r}, which means something else to safetensors"
    elif not isinstance(value, torch.Tensor):
        what = f"{name!r} is {type(value).__name__}, and safetensors hold tensors only"
    elif kind:
        what = f"{name!r} is a {kind} tensor, which safetensors cannot hold"
    else:
        return
    raise CheckpointError(what, fix="name OUT.pt instead")


def _kind(tensor: torch.Tensor) -> str:
    """Return the kind of a tensor that is not plain; empty for a plain one."""
    kinds = {
        "quantized": tensor.is_quantized,
        "meta": tensor.is_meta,
        "nested": tensor.is_nested,
        str(tensor.layout).removeprefix("torch."): tensor.layout is not torch.strided,
    }
    return next((kind for kind, holds in kinds.items() if holds), "")

"""Compare tensors in memory bit for bit, and return the ledger of a swap."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace

import torch

from modswap.core.kept.ledger import Changes, ledger
from modswap.core.kept.outcome import Ledger
from modswap.live_values import nbytes_of
from modswap.ops.swap import Prepared


def model_changes(prepared: Prepared) -> Changes:
    """Return the tensors of a model that a swap may change, by the paths of the new modules."""
    return Changes(tuple(f"{path}." for built in prepared.built for path in built.paths))


def mapped_names(
    prepared: Prepared, beginnings: Iterable[str] = ("",), known: Mapping[str, str] | None = None
) -> frozenset[str]:
    """Return the names in a file of the new tensors that were made of old ones.

    `beginnings` are those of the names in the file's slots, `known` the names there by the model's.
    """
    own = [
        f"{path}.{name}"
        for built in prepared.built
        for path in built.paths
        for name in built.started.mapped
    ]
    named = [(known or {}).get(name, name) for name in own]
    return frozenset(f"{start}{name}" for start in {*beginnings, ""} for name in named)


def tensor_ledger(
    before: Mapping[str, torch.Tensor],
    after: Mapping[str, torch.Tensor],
    changes: Changes,
    *,
    where: str,
    compare: bool,
) -> Ledger:
    """Return the ledger of tensors in memory: kept, mapped, fresh and dropped.

    The bits of every kept tensor are compared with `compare`; else only names and shapes.

    Raises:
        CheckpointError: If a tensor that `changes` does not cover is missing, new or changed.
    """
    same = same_bits if compare else same_kind
    found = ledger(before, after, changes, same=same, size=_size, where=where)
    return replace(found, proved=compare)


def _size(tensor: torch.Tensor) -> tuple[Hashable, int]:
    plain = tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_nested)
    pointer = tensor.data_ptr() if plain and tensor.numel() else id(tensor)
    key = (pointer, tensor.numel(), () if tensor.is_nested else tuple(tensor.shape))
    return key, nbytes_of(tensor)


def same_kind(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors have the same shape and dtype."""
    if a.dtype != b.dtype or a.is_nested != b.is_nested:
        return False
    return a.is_nested or a.shape == b.shape  # a nested tensor has a shape for each part


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors are equal bit for bit, NaNs included."""
    if not same_kind(a, b) or a.layout != b.layout:
        return False
    if a.is_meta:
        return True
    if a.layout is not torch.strided or a.is_quantized or a.is_nested:
        return _equal_parts(a, b)
    if a.numel() == 0:
        return True
    flat = [t.detach().resolve_conj().resolve_neg().contiguous().view(-1) for t in (a, b)]
    return torch.equal(flat[0].view(torch.uint8), flat[1].view(torch.uint8))


def _equal_parts(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.is_sparse:
        a, b = a.coalesce(), b.coalesce()
        return same_bits(a.indices(), b.indices()) and same_bits(a.values(), b.values())
    if a.is_quantized:
        return a.qscheme() == b.qscheme() and same_bits(a.int_repr(), b.int_repr())
    if a.is_nested:
        pairs = zip(a.unbind(), b.unbind(), strict=False)
        return a.size(0) == b.size(0) and all(same_bits(x, y) for x, y in pairs)
    return same_bits(a.to_dense(), b.to_dense())

"""The ledger: what became of every tensor, proved on the file as it was written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from modswap.core.errors import CheckpointError
from modswap.core.outcome import Amount, Ledger


@dataclass(frozen=True, slots=True)
class Names:
    """Which tensor names of a file a swap may change.

    Args:
        prefixes: Prefixes of names, each ending in a dot, that belong to swapped modules.
    """

    prefixes: tuple[str, ...]

    def covers(self, name: str) -> bool:
        """Return whether a tensor belongs to a swapped module."""
        return name.startswith(self.prefixes)


def ledger(
    before: Mapping[str, torch.Tensor],
    after: Mapping[str, torch.Tensor],
    swapped: Names,
    *,
    where: str,
    compare: bool,
) -> Ledger:
    """Return what became of every tensor.

    Args:
        before: Every tensor of the file as it was, by name.
        after: Every tensor of the file as it was written (or would be).
        swapped: Which names may change.
        where: The written file.
        compare: Whether to compare the bits of every kept tensor; else only names and shapes.

    Raises:
        CheckpointError: If a tensor that the plan does not name is missing, new or changed.
    """
    kept = [name for name in before if name in after and not swapped.covers(name)]
    dropped = [name for name in before if swapped.covers(name)]
    fresh = [name for name in after if swapped.covers(name)]
    wrong = [f"{name} is missing" for name in before if name not in after and name not in dropped]
    wrong += [f"{name} is new" for name in after if name not in before and name not in fresh]
    for name in kept:
        if not (same_bits if compare else same_kind)(before[name], after[name]):
            wrong.append(f"{name} changed")
    if wrong:
        what = f"{len(wrong)} tensors outside the swap did not survive: {'; '.join(wrong[:6])}"
        raise CheckpointError(what, where, "report this: the file should not be used")
    return Ledger(
        kept=_amount(before[name] for name in kept),
        fresh=_amount(after[name] for name in fresh),
        dropped=_amount(before[name] for name in dropped),
        proved=compare,
    )


def same_kind(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors have the same shape and dtype."""
    return a.shape == b.shape and a.dtype == b.dtype


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two tensors are equal bit for bit, NaNs included."""
    if not same_kind(a, b) or a.layout != b.layout:
        return False
    if a.layout is not torch.strided or a.is_quantized or a.is_nested or a.is_meta:
        return a.is_meta or _equal_parts(a, b)
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


def _amount(tensors: Iterable[torch.Tensor]) -> Amount:
    """Count tensors by name and their bytes, bytes under two names once."""
    count = 0
    seen: dict[tuple[int, int, tuple[int, ...]], int] = {}
    for tensor in tensors:
        count += 1
        strided = tensor.layout is torch.strided and not tensor.is_meta
        pointer = tensor.data_ptr() if strided and tensor.numel() else id(tensor)
        key = (pointer, tensor.numel(), tuple(tensor.shape))
        seen[key] = tensor.numel() * tensor.element_size()
    return Amount(count, sum(seen.values()))

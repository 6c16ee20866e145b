"""What became of every tensor: comparing the names and contents of two files."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from modswap.core.errors import CheckpointError
from modswap.core.kept.outcome import Amount, Ledger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changes:
    """Which tensors of a file a swap may change, by name.

    Args:
        prefixes: Beginnings of names, each ending in a dot, that belong to swapped modules.
        renamed: Names that become others, such as those of an optimizer's state.
        gone: Further names that are there no longer.
    """

    prefixes: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    gone: Collection[str] = ()

    def covers(self, name: str) -> bool:
        """Return whether a tensor belongs to a swapped module."""
        return name.startswith(self.prefixes)


def ledger(
    before: Mapping[str, T],
    after: Mapping[str, T],
    changes: Changes,
    *,
    same: Callable[[T, T], bool],
    size: Callable[[T], tuple[Hashable, int]],
    where: str,
) -> Ledger:
    """Return what became of every tensor; whether that was proved is for the caller to say.

    Args:
        before: Every tensor of the file as it was, by name.
        after: Every tensor of the file as it was written (or would be).
        changes: What may change.
        same: Whether two tensors are the same.
        size: What tells a tensor's bytes from those of others, and their number.
        where: The written file.

    Raises:
        CheckpointError: If a tensor that the plan does not name is missing, new or changed.
    """
    moved = {new: old for old, new in changes.renamed.items() if new in after and old in before}
    dropped = {n for n in before if changes.covers(n) or n in changes.gone}
    kept = [n for n in before if n in after and n not in dropped and n not in changes.renamed]
    fresh = [n for n in after if changes.covers(n)]
    known = {*kept, *moved}
    accounted = {*dropped, *moved.values(), *known}
    wrong = [f"{n} is missing" for n in before if n not in accounted]
    wrong += [f"{n} is new" for n in after if n not in known and not changes.covers(n)]
    wrong += [f"{n} changed" for n in kept if not same(before[n], after[n])]
    wrong += [f"{old} changed" for new, old in moved.items() if not same(before[old], after[new])]
    if wrong:
        what = f"{len(wrong)} tensors outside the swap did not survive: {'; '.join(wrong[:6])}"
        raise CheckpointError(what, where, "report this: the file should not be used")
    return Ledger(
        kept=_amount((before[n] for n in kept), size),
        mapped=_amount((before[old] for old in moved.values()), size),
        fresh=_amount((after[n] for n in fresh), size),
        dropped=_amount((before[n] for n in before if n in dropped), size),
    )


def _amount(tensors: Iterable[T], size: Callable[[T], tuple[Hashable, int]]) -> Amount:
    """Count tensors by name and their bytes, bytes under two names once."""
    count = 0
    seen: dict[Hashable, int] = {}
    for tensor in tensors:
        count += 1
        key, nbytes = size(tensor)
        seen[key] = nbytes
    return Amount(count, sum(seen.values()))

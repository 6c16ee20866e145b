"""Ledger of a swap: tensors kept, renamed, added and dropped, by comparing two files."""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from modswap.core.errors import CheckpointError
from modswap.core.kept.outcome import Amount, Ledger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changes:
    """The tensors of a file that a swap may change, by name."""

    # prefixes, each ending in a dot, of names that belong to swapped modules
    prefixes: tuple[str, ...]
    # new names of tensors by their old ones, such as those of an optimizer's state
    renamed: Mapping[str, str] = field(default_factory=dict)
    gone: Collection[str] = ()  # further names that the swap removes
    names: Collection[str] = ()  # further names that belong to swapped modules

    def covers(self, name: str) -> bool:
        """Return whether a tensor belongs to a swapped module."""
        return name.startswith(self.prefixes) or name in self.names

    def drops(self, name: str) -> bool:
        """Return whether the swap removes a tensor of the file."""
        return self.covers(name) or name in self.gone


def ledger(
    before: Mapping[str, T],
    after: Mapping[str, T],
    changes: Changes,
    *,
    same: Callable[[T, T], bool],
    size: Callable[[T], tuple[Hashable, int]],
    where: str,
) -> Ledger:
    """Return the numbers of kept, mapped, fresh and dropped tensors; the caller sets `proved`.

    `before` and `after` are all tensors of the file by name, `same` compares two of them, and
    `size` returns a key for a tensor's bytes, and their number.

    Raises:
        CheckpointError: If a tensor that the plan does not name is missing, new or changed.
    """
    fates = _fates(before, after, changes)
    kept = {**fates.stays, **fates.moved}
    wrong = list(_unplanned(before, after, fates))
    wrong += [f"{old} changed" for new, old in kept.items() if not same(before[old], after[new])]
    if wrong:
        what = f"{len(wrong)} tensors outside the swap did not survive: {'; '.join(wrong[:6])}"
        raise CheckpointError(what, where, "report this: the file should not be used")
    return Ledger(
        kept=_amount(((n, before[n]) for n in fates.stays), size),
        mapped=_amount(((new, before[old]) for new, old in fates.moved.items()), size),
        fresh=_amount(((n, after[n]) for n in fates.fresh), size),
        dropped=_amount(((n, before[n]) for n in fates.dropped), size),
    )


@dataclass(frozen=True, slots=True)
class _Fates:
    """The names of tensors by their fate; `stays` and `moved` map new names to old ones."""

    stays: Mapping[str, str]
    moved: Mapping[str, str]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]


def _fates(before: Collection[str], after: Collection[str], changes: Changes) -> _Fates:
    renamed = changes.renamed
    remaining = [n for n in before if not changes.drops(n)]
    return _Fates(
        stays={n: n for n in remaining if n in after and n not in renamed},
        moved={new: old for old, new in renamed.items() if new in after and old in before},
        fresh=tuple(n for n in after if changes.covers(n)),
        dropped=tuple(n for n in before if changes.drops(n) and n not in renamed),
    )


def _unplanned(before: Iterable[str], after: Iterable[str], fates: _Fates) -> Iterator[str]:
    """Yield in words each tensor that is missing or new against the plan."""
    known = {*fates.stays, *fates.moved}
    accounted = {*known, *fates.moved.values(), *fates.dropped}
    yield from (f"{n} is missing" for n in before if n not in accounted)
    planned = {*known, *fates.fresh}
    yield from (f"{n} is new" for n in after if n not in planned)


def _amount(named: Iterable[tuple[str, T]], size: Callable[[T], tuple[Hashable, int]]) -> Amount:
    return Amount.of((name, *size(tensor)) for name, tensor in named)

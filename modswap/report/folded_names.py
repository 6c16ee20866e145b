"""Names that differ in numbers alone, on one line: `blocks.0–11.attn.weight ×12`."""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

_NUMBER = re.compile(r"(?<![^.:])\d+(?![^.:])")  # a whole segment

_LISTED = 6  # numbers that are listed one by one


@dataclass(frozen=True, slots=True)
class NameFold:
    """Names of one pattern with one key, in their order."""

    names: tuple[str, ...]
    key: Any

    @property
    def words(self) -> str:
        """Return them as one text."""
        if len(self.names) == 1:
            return self.names[0]
        columns = [
            sorted(set(map(int, column)))
            for column in zip(*map(_NUMBER.findall, self.names), strict=True)
        ]
        full = prod(map(len, columns)) == len(self.names)
        texts = iter([_range(column) if full else _many(column) for column in columns])
        pattern = _NUMBER.sub(lambda _: next(texts), self.names[0])
        return f"{pattern} ×{len(self.names)}"


def folded(rows: Iterable[tuple[str, Hashable]], *, verbose: bool = False) -> Sequence[NameFold]:
    """Return names by their patterns and keys, in the order of the first of each."""
    groups: dict[Hashable, list[str]] = {}
    keys: dict[Hashable, Any] = {}
    for number, (name, key) in enumerate(rows):
        pattern = number if verbose else (pattern_of(name), pattern_of(str(key)))
        groups.setdefault(pattern, []).append(name)
        keys.setdefault(pattern, key)
    return [NameFold(tuple(names), keys[pattern]) for pattern, names in groups.items()]


def pattern_of(name: str) -> str:
    """Return a name with a mark for each segment that is a number."""
    return _NUMBER.sub("#", name)


def _range(numbers: Sequence[int]) -> str:
    first, last = numbers[0], numbers[-1]
    if first == last:
        return str(first)
    if last - first + 1 == len(numbers):
        return f"{first}–{last}"
    return "{" + ",".join(map(str, numbers)) + "}" if len(numbers) <= _LISTED else f"{first}…{last}"


def _many(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else "*"

"""Read JSON of a stranger: bounded, and refused where two programs could read it in two ways."""

import json
import math
from collections import Counter
from typing import Any

from modswap.core.errors import CheckpointError

MAX_NESTING = 100  # objects and lists inside one another
MAX_VALUES = 4_000_000  # commas; an index has one for each tensor
MAX_CONTAINERS = 500_000  # objects and lists in all
MAX_DIGITS = 100  # of a number
_AGAIN = "save or download it again"
_ODD = "do not use it: no program writes such a file"
_TWICE = "do not use it: programs would read it in two ways"


class MalformedError(CheckpointError):
    """A text is no JSON."""


def parse_json(data: bytes, where: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        MalformedError: If it is no JSON.
        CheckpointError: If it nests too deep, names a key twice, or holds a number or a count of
            values that no program writes; `where` is its file.
    """
    if data.count(b",") > MAX_VALUES or data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        raise CheckpointError("it cannot be read: it holds too many values", where, _ODD)
    reader = _JsonReader(where)
    try:
        value = json.loads(
            data, object_pairs_hook=reader.once, parse_int=reader.integer, parse_float=reader.real
        )
    except RecursionError:
        raise reader.too_deep() from None
    except ValueError as error:
        raise MalformedError(
            f"it cannot be read: it is no JSON: {error}"[:200], where, _AGAIN
        ) from None
    reader.refuse_depth(value)
    return value


class _JsonReader:
    """The parts of a JSON reader that refuse what no program writes."""

    def __init__(self, where: str) -> None:
        self.where = where

    def once(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Return an object; refuse one that names a key twice."""
        held = dict(pairs)
        if len(held) == len(pairs):
            return held
        counts = Counter(name for name, _ in pairs)
        name = next(name for name in counts if counts[name] > 1)
        raise CheckpointError(
            f"it cannot be read: it names {name!r:.100} twice", self.where, _TWICE
        )

    def integer(self, digits: str) -> int:
        """Return a whole number; refuse one of very many digits."""
        if len(digits) > MAX_DIGITS:
            raise self._huge(digits)
        return int(digits)

    def real(self, digits: str) -> float:
        """Return a number; refuse one beyond the range of 64 bits."""
        value = float(digits)
        if math.isinf(value):
            raise self._huge(digits)
        return value

    def _huge(self, digits: str) -> CheckpointError:
        shown = digits if len(digits) <= 20 else f"{digits[:20]}…"
        what = f"it cannot be read: it holds the number {shown}, which is too large"
        return CheckpointError(what, self.where, _ODD)

    def too_deep(self) -> CheckpointError:
        """Return the error for objects and lists that are nested too deep."""
        what = f"it cannot be read: its values are nested more than {MAX_NESTING} deep"
        return CheckpointError(what, self.where, _ODD)

    def refuse_depth(self, value: Any) -> None:
        """Refuse a value whose objects and lists are nested too deep."""
        level = [value] if isinstance(value, dict | list) else []
        for _ in range(MAX_NESTING):
            level = [inner for held in level for inner in _inside(held)]
            if not level:
                return
        raise self.too_deep()


def _inside(held: Any) -> list[Any]:
    """Return the objects and lists directly inside an object or a list."""
    values = held.values() if isinstance(held, dict) else held
    return [value for value in values if isinstance(value, dict | list)]

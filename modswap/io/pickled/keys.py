"""Judge the keys and elements that a pickle would hash: hashing must not cost more than its bytes.

A tuple of tuples is hashed as often as it has paths, on the C stack; numbers can be chosen so that
thousands of them collide.
"""

from collections.abc import Iterable
from typing import Any

MAX_KEY_DEPTH = 8  # tuples inside tuples
MAX_KEY_PARTS = 64  # values in all tuples of a key
MAX_TUPLE_KEYS = 10_000  # that hold numbers, whose hashes a file can choose
_INTEGER_BITS = 64
_HASHED = (str, bytes, float, bool, type(None))


class Keys:
    """A judge of the keys of a file, which counts those whose hashes can collide."""

    def __init__(self) -> None:
        self._tuples = 0

    def flaw(self, keys: Iterable[Any]) -> str:
        """Return the flaw of the first key that must not be hashed; empty if all may be."""
        for key in keys:
            if type(key) in _HASHED:
                continue
            if isinstance(key, int) and key.bit_length() > _INTEGER_BITS:
                return f"a key of it is a number of {key.bit_length():,} bits"
            if isinstance(key, (list, dict)):
                return f"a key of it is a {type(key).__name__}, which cannot be one"
            if isinstance(key, tuple) and (found := self._tuple_flaw(key)):
                return found
        return ""

    def _tuple_flaw(self, key: tuple[Any, ...]) -> str:
        stack: list[tuple[Any, int]] = [(key, 1)]
        parts, numbers = 0, False
        while stack:
            value, depth = stack.pop()
            parts += 1
            numbers = numbers or isinstance(value, (int, float))
            if depth > MAX_KEY_DEPTH or parts > MAX_KEY_PARTS:
                return "a key of it is a tuple that holds too much to be hashed"
            if isinstance(value, tuple):
                stack += [(item, depth + 1) for item in value[: MAX_KEY_PARTS + 1]]
            elif found := self.flaw([value]):
                return found
        self._tuples += numbers
        if self._tuples > MAX_TUPLE_KEYS:
            return f"over {MAX_TUPLE_KEYS:,} keys of it are tuples of numbers"
        return ""

"""Judge the keys and elements that a pickle would hash: hashing must not cost more than its bytes.

A tuple of tuples is hashed as often as it has paths, on the C stack; large numbers and tuples of
numbers can be chosen so that the hashes of thousands collide.
"""

from collections.abc import Iterable
from typing import Any

MAX_KEY_DEPTH = 8  # tuples inside tuples
MAX_KEY_PARTS = 64  # values in all tuples of a key
MAX_CHOSEN_KEYS = 10_000  # whose hashes a file can choose
_INTEGER_BITS = 64  # up to which few numbers have one hash
_HASHED = (str, bytes, float, bool, type(None))


class Keys:
    """A judge of the keys of a file, which counts those whose hashes can collide."""

    def __init__(self) -> None:
        self._chosen = 0

    def flaw(self, keys: Iterable[Any]) -> str:
        """Return the flaw of the first key that must not be hashed; empty if all may be."""
        for key in keys:
            if type(key) in _HASHED:
                continue
            if isinstance(key, int):
                self._chosen += key.bit_length() > _INTEGER_BITS
            # an object may be hashed as the arguments that it is made of
            inside = key if isinstance(key, tuple) else getattr(key, "args", None)
            if isinstance(inside, tuple) and not self._may_be_hashed(inside):
                return "a key of it is a tuple that holds too much to be hashed"
            if self._chosen > MAX_CHOSEN_KEYS:
                return f"over {MAX_CHOSEN_KEYS:,} keys of it are large numbers or tuples of numbers"
        return ""

    def _may_be_hashed(self, key: tuple[Any, ...]) -> bool:
        """Return whether a tuple holds few values at a small depth; count it if it has numbers."""
        stack: list[tuple[Any, int]] = [(key, 1)]
        parts, numbers = 0, False
        while stack:
            value, depth = stack.pop()
            parts += 1
            if depth > MAX_KEY_DEPTH or parts > MAX_KEY_PARTS:
                return False
            inside = value if isinstance(value, tuple) else getattr(value, "args", ())
            stack += [(item, depth + 1) for item in inside[: MAX_KEY_PARTS + 1]]
            numbers = numbers or isinstance(value, (int, float))
        self._chosen += numbers
        return True

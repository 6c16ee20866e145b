"""Walk over everything that a pickle, read as data, holds."""

from collections.abc import Iterator
from typing import Any

from modswap.io.pickled.data import Instance


def everything(payload: Any) -> Iterator[Any]:
    """Yield everything in a payload, each object once."""
    seen: set[int] = set()
    stack = [payload]
    while stack:
        value = stack.pop()
        if isinstance(value, (str, int, float, bytes, type(None))) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        stack += _inside(value)


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, Instance):
        yield from (value.what, value.args, value.state, value.elements)
        for key, item in value.items:
            yield from (key, item)


def is_dict(value: Any) -> bool:
    """Return whether a value of a pickle is a plain dictionary."""
    return isinstance(value, dict)

"""Telling tensors apart by where their bytes lie and how they are read."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from modswap.io.pickled.data import Instance, Name, Storage
from modswap.io.pickled.edit import named_tensors
from modswap.io.pickled.outline import tensor_parts
from modswap.io.raw.byte_range import ByteRange
from modswap.io.rewriting import Mark

_PLAIN = {int, bool, str, type(None), Name}
_DEPTH = 8  # levels of what a tensor is made of


def marks(payload: Any, extent_of: Callable[[Storage], ByteRange]) -> Iterator[tuple[str, Mark]]:
    """Yield a mark for every tensor of a payload; of two with one name the later has a number."""
    seen: dict[str, int] = {}
    for name, value in named_tensors(payload):
        number = seen[name] = seen.get(name, 0) + 1
        parts = tensor_parts(value)
        nbytes = parts.nbytes if parts is not None else 0
        stored = parts.stored if parts is not None else None
        place = _place(extent_of(stored)) if isinstance(stored, Storage) else id(value)
        text = name if number == 1 else f"{name}#{number}"
        yield text, Mark(_content(value, extent_of), (place, nbytes), nbytes)


def _place(extent: ByteRange) -> Hashable:
    if not extent.nbytes:
        return None
    return extent.file, extent.start if extent.file else id(extent.data), extent.nbytes


def _content(value: Any, extent_of: Callable[[Storage], ByteRange], depth: int = 0) -> Hashable:
    """Return what two tensors have in common if and only if they are the same."""
    if type(value) in _PLAIN:
        return type(value), value
    if isinstance(value, Storage):
        return value.kind, value.location, _place(extent_of(value))
    if depth > _DEPTH:
        return id(type(value))  # an attribute of a tensor may hold anything, the model itself too
    if isinstance(value, Instance):
        # what holds nothing more is told by its class and arguments alone
        more = (value.state, value.items, value.elements)
        told = (value.how, value.what, _content(value.args, extent_of, depth + 1))
        rest = more if any(part is not None and part != () for part in more) else ()
        return (*told, *(_content(part, extent_of, depth + 1) for part in rest))
    if isinstance(value, tuple | list | dict):
        parts: Iterable[Any] = value.items() if isinstance(value, dict) else value
        return tuple([_content(part, extent_of, depth + 1) for part in parts])
    return type(value), repr(value)  # a NaN is no other

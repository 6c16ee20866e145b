"""Compare tensors by the places of their bytes and by their sizes, without reading the bytes."""

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from modswap.io.pickled.data import Instance, Name, Storage
from modswap.io.pickled.storages import Storages
from modswap.io.pickled.values import tensor_parts
from modswap.io.pickled.walk import named_tensors
from modswap.io.raw.byte_range import ByteRange
from modswap.io.rewriting import Mark

_PLAIN = {int, bool, str, type(None), Name}
_MAX_DEPTH = 8  # containers inside containers in the arguments and attributes of a tensor


def marks(payload: Any, storages: Storages) -> Iterator[tuple[str, Mark]]:
    """Yield a mark for every tensor of a payload; a repeated name gets a number.

    Raises:
        CheckpointError: If the record of a tensor is missing, or of another size.
    """
    seen: dict[str, int] = {}
    for name, value in named_tensors(payload):
        number = seen[name] = seen.get(name, 0) + 1
        tensor = tensor_parts(value)
        place = id(value) if tensor is None else _place(storages.find(tensor.stored))
        nbytes = 0 if tensor is None else tensor.nbytes
        text = name if number == 1 else f"{name}#{number}"
        yield text, Mark(_content(value, storages), (place, nbytes), nbytes)


def _place(held: ByteRange) -> Hashable:
    if not held.nbytes:
        return None
    return held.file, held.start if held.file else id(held.data), held.nbytes


def _content(value: Any, storages: Storages, depth: int = 0) -> Hashable:
    """Return a value that is equal for two tensors if, and only if, the tensors are the same."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is Storage:
        return value.kind, value.location, _place(storages.find(value))
    if depth > _MAX_DEPTH:
        return id(kind)  # an attribute of a tensor may hold anything, even the model
    if kind is Instance:
        rest = (value.state, value.items, value.elements)
        # most objects have neither state nor contents
        inside = [value.args, *(rest if rest != (None, (), ()) else ())]
        return value.how, value.what, *(_content(part, storages, depth + 1) for part in inside)
    if isinstance(value, (tuple, list, dict)):
        parts: Iterable[Any] = value.items() if isinstance(value, dict) else value
        return kind, *[_content(part, storages, depth + 1) for part in parts]
    return kind, repr(value)  # by its text: a NaN equals no other

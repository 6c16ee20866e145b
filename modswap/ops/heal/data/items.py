"""An item of an iterable, taken apart: values by the arguments that they go into, and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modswap.core.errors import InputError
from modswap.live_values import live_tensors
from modswap.ops.heal.data.columns import LABELS, main_key, named_keys
from modswap.ops.heal.data.taker import Key, Taker
from modswap.ops.heal.samples import Batch
from modswap.ops.run.inputs import DummyCall

_WAYS = "give (inputs, labels), (args, kwargs), or a mapping by the names of arguments"


@dataclass(frozen=True, slots=True)
class DataItem:
    """Values of one sample, or of several along their first axis.

    Args:
        values: Tensors, arrays, pictures or lists of numbers, by argument.
        labels: Their labels, or None.
        call: The call that the item is; None where it gives values alone.
        left: Names that are no argument of the model.
    """

    values: Mapping[Key, Any]
    labels: Any = None
    call: DummyCall | None = None
    left: tuple[str, ...] = ()


def item_of(given: Any, taker: Taker, where: str) -> DataItem:
    """Return an item of an iterable, taken apart.

    It is a `Batch`, a mapping by names of arguments, (args, kwargs), (inputs, labels), or a value.

    Raises:
        InputError: If it is none of these for the model's call.
    """
    match given:
        case Batch():
            return _call(given.args, given.kwargs, where, given.labels)
        case Mapping():
            return _named(given, taker, where)
        case (tuple() | list() as args, Mapping() as kwargs) if all(map(_is_text, kwargs)):
            return _call(args, kwargs, where)
        case tuple() | list():
            return _in_order(given, taker, where)
    return DataItem({main_key(taker, where): given})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _call(
    args: Sequence[Any], kwargs: Mapping[str, Any], where: str, labels: Any = None
) -> DataItem:
    """Return the item of a whole call, whose plain values hold for every sample."""
    given: list[tuple[Key, Any]] = [*enumerate(args), *kwargs.items()]
    values = {key: one for key, one in given if tensor_of(one) is not None and not _plain(one)}
    inside = [key for key, one in given if key not in values and live_tensors(one)]
    if inside or not values:
        what = f"its argument {inside[0]!r} holds tensors in a container" if inside else "no tensor"
        raise InputError(f"(args, kwargs) cannot be cut into samples: {what}", where, _WAYS)
    return DataItem(values, labels, DummyCall(tuple(args), dict(kwargs)).described())


def _plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, list, tuple))


def _named(given: Mapping[Any, Any], taker: Taker, where: str) -> DataItem:
    """Return the item of a mapping: by names of arguments, or with one value that may be input."""
    known, own = named_keys(taker), named_keys(taker, called=True)
    labels = next((given[name] for name in LABELS if name in given and name not in own), None)
    labels = given.get("cls", labels) if "cls" not in known else labels  # of WebDataset
    rest = {
        name: one
        for name, one in given.items()
        if (name in own or name not in (*LABELS, "cls")) and tensor_of(one) is not None
    }
    values = {known[name]: one for name, one in rest.items() if name in known}
    left = tuple(str(name) for name in rest if name not in known)
    if not values and len(rest) == 1:
        return DataItem({main_key(taker, where): next(iter(rest.values()))}, labels)
    if not values:
        names = ", ".join(map(repr, list(given)[:8]))
        what = f"its items have {names}, none of them an argument of the model with numbers"
        raise InputError(what, where, f"name them {', '.join(map(repr, list(known)[:8]))}")
    return DataItem(values, labels, left=left)


def _in_order(given: Sequence[Any], taker: Taker, where: str) -> DataItem:
    """Return the item of a sequence: the tensors of the call in their order, then labels."""
    keys = [one.key for one in taker.arguments]
    if len(given) in {1, len(keys), len(keys) + 1}:
        labels = given[len(keys)] if len(given) > len(keys) else None
        return DataItem(dict(zip(keys, given, strict=False)), labels)
    if len(keys) == 1:  # (picture, class, name of a file)
        return DataItem({keys[0]: given[0]}, given[1])
    what = f"its items have {len(given)} values, the model takes {len(keys)} tensors"
    raise InputError(what, where, _WAYS)


def is_picture(value: Any) -> bool:
    """Return whether a value is a picture of Pillow's."""
    return type(value).__module__.partition(".")[0] == "PIL"


def tensor_of(value: Any) -> Any:
    """Return numbers as a tensor on the CPU, a picture of Pillow's as it is, None for the rest."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if is_picture(value):
        return value
    is_array = hasattr(value, "__array__") or isinstance(value, (bool, int, float))
    if not is_array and not (isinstance(value, (list, tuple)) and value):
        return None
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):  # texts, objects, rows of several lengths
        return None

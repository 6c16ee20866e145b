"""Values that a line sets, in words that hold no tensor alive."""

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from modswap.live_values import MAX_DEPTH, dtype_name, items_of, live_tensors, plain_parts

MAX_ITEMS = 6  # of a tuple or list
MAX_NESTED = 2  # tuples in tuples
MAX_TEXT_CHARACTERS = 24
_PLAIN = (bool, int, float, str, slice, torch.dtype, torch.device, type(None))

# a tensor is (shape, dtype); a tuple or list its class name, length and items; others a text
Described = Any


class TensorWords(tuple[Any, ...]):
    """The shape and dtype of a tensor."""

    __slots__ = ()


class ItemsWords(tuple[Any, ...]):
    """The class, the length and the first items of a tuple or list."""

    __slots__ = ()


def described(value: Any, depth: int = 0) -> Described:
    """Return a value as a hashable description."""
    if isinstance(value, torch.Tensor):
        if value.is_nested:
            return f"{value.size(0)} nested tensors {_dtype(value.dtype)}"
        return TensorWords((tuple(value.shape), _dtype(value.dtype)))
    if isinstance(value, (tuple, list)) and depth < MAX_NESTED:
        names = getattr(value, "_fields", None)
        items = tuple(described(item, depth + 1) for item in value[:MAX_ITEMS])
        return ItemsWords((type(value).__name__ if names else "", len(value), names, items))
    if isinstance(value, _PLAIN):
        text = repr(value)
        return text if len(text) <= MAX_TEXT_CHARACTERS else f"{text[: MAX_TEXT_CHARACTERS - 1]}…"
    if isinstance(value, Mapping) or is_dataclass(value):
        return _fields(value, depth)
    return type(value).__name__


_dtype = lru_cache(dtype_name)


def _fields(value: Any, depth: int) -> Described:
    """Return the tensors of a mapping or a dataclass by name; its class where it holds none."""
    kind = type(value).__name__
    if depth >= MAX_NESTED or isinstance(value, type) or not live_tensors(value, MAX_DEPTH - 1):
        return kind
    held = dict(items_of(value) or ())
    names = [str(name) for name, item in held.items() if item is not None][:MAX_ITEMS]
    items = tuple(described(held[name], depth + 1) for name in held if str(name) in names)
    return ItemsWords((kind, len(names), tuple(names), items))


def named(held: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    """Return whether local variables hold a dotted name, and its value; no property runs."""
    if "." not in name:
        return name in held, held.get(name)
    first, *rest = name.split(".")
    if first not in held:
        return False, None
    value = held[first]
    for part in rest:
        places = [vars(value)] if hasattr(value, "__dict__") else []
        if isinstance(value, nn.Module):
            places += [vars(value).get(key, {}) for key in ("_buffers", "_parameters", "_modules")]
        place = next((one for one in places if part in one), None)
        if place is None:
            return False, None
        value = place[part]
    return True, value


def not_finite(value: Any) -> set[str]:
    """Return which of NaN and infinity the tensors of a value hold."""
    found: set[str] = set()
    with _disable_current_modes(), torch.no_grad():
        for tensor in (part for one in live_tensors(value) for part in plain_parts(one)):
            if not (tensor.is_floating_point() and tensor.numel()) or tensor.is_meta:
                continue
            if tensor.dtype.itemsize == 1:  # torch cannot add these up
                tensor = tensor.float()  # noqa: PLW2901 - the same numbers
            if not math.isfinite(float(tensor.sum())):  # or a sum too large: look closer
                tests = (("NaN", torch.isnan), ("inf", torch.isinf))
                found |= {word for word, test in tests if bool(test(tensor).any())}
    return found

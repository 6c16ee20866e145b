"""Records for reports with visible escapes in their texts."""

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from operator import is_
from pathlib import PurePath
from typing import Any, TypeVar

from modswap.core.errors import ModswapError
from modswap.core.words.printable import tame, tame_lines

# fields whose texts may have several lines: fixes, which are ours, and texts shown as a block
OF_LINES = ("fix", "recipe_text", "receipt_text")
_WITHOUT_TEXT = (int, float, bool, type(None))
T = TypeVar("T")


def tamed(value: T) -> T:
    """Return a record with visible escapes in all its texts, those of inner records included.

    What is no record, text, path or collection of these stays as it is.
    """
    changed: Any = _tamed(value, "")
    return changed  # type: ignore[no-any-return] # it has the type of the value


def _tamed(value: Any, name: str) -> Any:
    """Return the value of a field with visible escapes; itself where there is none to make."""
    if isinstance(value, str):
        return tame_lines(value) if name in OF_LINES else tame(value)
    if type(value) in _WITHOUT_TEXT:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        different = _changed({field: getattr(value, field) for field in _fields(type(value))})
        return replace(value, **different) if different else value
    if type(value) in (tuple, list) or isinstance(value, Mapping):
        return _collected(value, name)
    if isinstance(value, ModswapError):
        error = copy.copy(value)
        vars(error).update(_changed(vars(value)), fix=tame(value.fix))
        return error
    return type(value)(tame(str(value))) if isinstance(value, PurePath) else value


def _collected(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {_tamed(key, ""): _tamed(item, "") for key, item in value.items()}
    new = [_tamed(item, name) for item in value]
    return value if all(map(is_, new, value)) else type(value)(new)


@cache
def _fields(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of a record's fields, which a report of many tensors asks for often."""
    return tuple(field.name for field in fields(kind))


def _changed(held: Mapping[str, Any]) -> dict[str, Any]:
    new = {key: _tamed(item, key) for key, item in held.items()}
    return {key: item for key, item in new.items() if item is not held[key]}

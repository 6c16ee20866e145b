"""Walk through the values of a pickle read as data, on a stack of its own: no file is too deep."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from modswap.io.pickled.data import Instance, UnreadableError
from modswap.io.pickled.names import key_text
from modswap.io.pickled.values import children, is_module, is_tensor, mapping, table

MAX_DEPTH = 32  # containers inside containers in which tensors are looked for
MAX_MODULE_DEPTH = 200  # modules inside modules
MAX_PATHS = 200_000  # of shared modules and containers, each counted under each of its names
_MAX_TENSOR_DEPTH = 320  # where modules are among the containers
_PLAIN = (str, int, float, bytes, type(None))


class NamedValue(NamedTuple):
    """A value inside a payload."""

    name: str  # dotted
    value: Any
    depth: int = 0  # the number of containers around it
    holder: Any = None  # the container around it; None for the payload itself
    key: Any = None  # in the holder


def everything(payload: Any) -> Iterator[Any]:
    """Yield every value in a payload but numbers and texts, each object once."""
    seen: set[int] = set()
    stack = [payload]
    while stack:
        value = stack.pop()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        stack += parts(value)


def parts(value: Any) -> Iterator[Any]:
    """Yield the values that a value holds directly, keys included."""
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, Instance):
        yield from (value.what, value.args, value.state, value.elements)
        for key, item in value.items:
            yield from (key, item)


def entries(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the keys and values of a list, tuple or dictionary; of a module, of its tables."""
    if is_module(value):
        tables = ("_parameters", "_buffers", "_modules")
        return (pair for name in tables for pair in table(value, name).items())
    if isinstance(value, (list, tuple)):
        return enumerate(value)
    return (mapping(value) or {}).items()


def named_entries(payload: Any, enter: Callable[[NamedValue], bool]) -> Iterator[NamedValue]:
    """Yield a payload and the values in it, in order; shared ones under each of their names.

    `enter` returns whether to walk into a value.
    """
    stack = [NamedValue("", payload)]
    while stack:
        entry = stack.pop()
        yield entry
        if enter(entry):
            _, holder, depth, _, _ = entry
            prefix = f"{entry.name}." if entry.name else ""
            inside = [
                NamedValue(f"{prefix}{key_text(key)}", value, depth + 1, holder, key)
                for key, value in entries(holder)
            ]
            stack += reversed(inside)


def named_tensors(payload: Any) -> Iterator[tuple[str, Instance]]:
    """Yield the tensors of a payload by their dotted names, shared ones under each name."""

    def enter(entry: NamedValue) -> bool:
        most = _MAX_TENSOR_DEPTH if is_module(entry.value) else MAX_DEPTH
        return entry.depth < most and not is_tensor(entry.value)

    for entry in named_entries(payload, enter):
        if is_tensor(entry.value):
            yield entry.name, entry.value


def named_modules(model: Instance) -> Iterator[tuple[str, Instance]]:
    """Yield a model and its modules by their dotted paths, shared ones under each path.

    Raises:
        UnreadableError: If modules are nested too deep, or have too many paths.
    """
    stack = [("", model, 0)]
    count = 0
    while stack:
        path, module, depth = stack.pop()
        count += 1
        if depth > MAX_MODULE_DEPTH:
            raise UnreadableError("its modules are nested too deep")
        if count > MAX_PATHS:
            raise UnreadableError(f"its modules have over {MAX_PATHS:,} paths")
        yield path, module
        below = [
            (f"{path}.{name}" if path else name, child, depth + 1)
            for name, child in children(module).items()
        ]
        stack += reversed(below)


def is_plain(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Return whether a value is a number, text or None, or a list or tuple of such values."""
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def nesting_flaw(payload: Any) -> tuple[str, str] | None:
    """Return the flaw of nested containers on which later walks would not end, and advice.

    A container may hold itself. Or containers are shared so often, level by level, that their paths
    are far more than they are: each level may double them.
    """
    paths: dict[int, int] = {}
    for value in everything(payload):
        if not isinstance(value, (Instance, dict, list)) or id(value) in paths:
            continue
        ring = _count_paths(value, paths)
        if ring is not None:
            what = f"a {ring.what if isinstance(ring, Instance) else type(ring).__name__}"
            return f"{what} of it contains itself", "save the model again without the ring"
        if paths[id(value)] > len(paths) + MAX_PATHS:
            what = f"its shared modules, lists and dictionaries have over {MAX_PATHS:,} paths"
            return what, "save the model again with fewer names for each module"
    return None


def _count_paths(start: Any, paths: dict[int, int]) -> Any:
    """Add the number of paths below each container to `paths`; return one that holds itself."""
    above: set[int] = set()
    stack: list[tuple[Any, bool]] = [(start, False)]
    while stack:
        value, left = stack.pop()
        if left:
            above.discard(id(value))
            count = 1 + sum(paths[id(part)] for part in _containers(value))
            paths[id(value)] = min(count, sys.maxsize)  # a file could make it any size
        elif id(value) in above:
            return value
        elif id(value) not in paths:
            above.add(id(value))
            stack.append((value, True))
            stack += ((part, False) for part in _containers(value))
    return None


def _containers(value: Any) -> Iterator[Any]:
    """Yield the containers in a container; of a module its modules, and no other attributes."""
    inside: Iterable[Any] = value
    if isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, Instance):
        modules = value.state.get("_modules") if isinstance(value.state, dict) else None
        inside = (*(item for _, item in value.items), *value.elements, modules)
    yield from (part for part in inside if isinstance(part, (Instance, dict, list, tuple)))

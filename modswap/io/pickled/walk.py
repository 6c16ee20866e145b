"""Walk through the values of a pickle read as data, on a stack of its own: no file is too deep."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from modswap.core.budget import (
    MAX_MODULE_DEPTH,
    MAX_PATHS,
    MAX_SHARED_ENTRIES,
    MAX_WALKED_CHARACTERS,
    PathBudget,
)
from modswap.io.pickled.data import CostlyError, Instance
from modswap.io.pickled.names import key_text
from modswap.io.pickled.values import children, is_module, is_tensor, mapping, table

MAX_DEPTH = 32  # containers inside containers in which tensors are looked for
_MAX_TENSOR_DEPTH = 320  # where modules are among the containers
_PLAIN = frozenset((str, int, float, bytes, bool, type(None)))
_CONTAINERS = (Instance, dict, list, tuple)
_SMALL = 8  # entries of a container that is counted anew each time
_TABLES = ("_parameters", "_buffers", "_modules")  # of a module


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
        if type(value) in _PLAIN or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        stack += parts(value)


def parts(value: Any) -> list[Any]:
    """Return the values that a value holds directly but numbers and texts, keys included."""
    held: Iterable[Any] = ()
    if isinstance(value, (list, tuple)):
        held = value
    elif isinstance(value, dict):
        held = (*value, *value.values())
    elif isinstance(value, Instance):
        pairs = (part for pair in value.items for part in pair)
        held = (value.what, value.args, value.state, value.elements, *pairs)
    return [part for part in held if type(part) not in _PLAIN]


def entries(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the keys and values of a list, tuple or dictionary; of a module, of its tables."""
    if is_module(value):
        return (pair for name in _TABLES for pair in table(value, name).items())
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
        CostlyError: If they are nested too deep, or have too many or too long paths.
    """
    return ((path, module) for path, module, _ in module_nodes(model))


def module_nodes(model: Instance) -> Iterator[tuple[str, Instance, int]]:
    """Yield the same, each with the number of the path around it; that of the model is its own.

    Raises:
        CostlyError: As `named_modules`.
    """
    stack = [("", model, 0, 0)]
    budget = PathBudget()
    while stack:
        path, module, parent, depth = stack.pop()
        if flaw := budget.flaw(path, depth, module):
            raise CostlyError(flaw)
        yield path, module, parent
        number = budget.paths - 1
        below = [
            (f"{path}.{name}" if path else name, child, number, depth + 1)
            for name, child in children(module).items()
        ]
        stack += reversed(below)


def is_plain(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Return whether a value is a number, text or None, or a list or tuple of such values."""
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


class _Reach(NamedTuple):
    """The sums of a walk through a container that enters shared containers each time."""

    entries: int = 0  # of it and of all containers in it
    paths: int = 0  # of modules
    characters: int = 0  # of the names of the entries
    depth: int = 0  # of modules inside modules, itself counted


def nesting_flaw(payload: Any) -> tuple[str, str] | None:
    """Return the flaw of nested containers on which later walks would not end, and advice.

    A container may hold itself. Or containers are shared so often, level by level, that their paths
    are far more than they are: each level may double them.
    """
    reaches: dict[int, _Reach] = {}
    entries_once = modules = 0
    for value in everything(payload):
        if not isinstance(value, _CONTAINERS):
            continue
        entries_once += _count(value)
        modules += is_module(value)
        ring = _measure(value, reaches)
        if ring is not None:
            what = f"a {ring.what if isinstance(ring, Instance) else type(ring).__name__}"
            return f"{what} of it contains itself", "save the model again without the ring"
    flaws = (_flaw_of(reach, entries_once, modules) for reach in reaches.values())
    return next(filter(None, flaws), None)


def _flaw_of(reach: _Reach, entries_once: int, modules: int) -> tuple[str, str] | None:
    fewer = "save the model again with fewer names for each module"
    if reach.entries > entries_once + MAX_SHARED_ENTRIES:
        what = "its shared modules, lists and dictionaries"
        return f"{what} have over {MAX_SHARED_ENTRIES:,} paths", fewer
    if reach.paths > modules + MAX_PATHS:
        return f"its shared modules have over {MAX_PATHS:,} paths", fewer
    if reach.depth > MAX_MODULE_DEPTH + 1:
        what = f"its modules are nested over {MAX_MODULE_DEPTH} deep"
        return what, "do not load it: it was not made by a sound program"
    if reach.characters > MAX_WALKED_CHARACTERS:
        what = f"the names in it would have over {MAX_WALKED_CHARACTERS:,} characters"
        return what, "save the model again with shorter names"
    return None


def _measure(start: Any, reaches: dict[int, _Reach]) -> Any:
    """Add the reaches of containers, but of the smallest; return one that holds itself."""
    above: set[int] = set()
    stack: list[tuple[Any, _Inside | None]] = [(start, None)]
    while stack:
        value, left = stack.pop()
        key = id(value)
        if left is not None:
            above.discard(key)
            reaches[key] = _summed(value, left, reaches)
        elif key in above:
            return value
        elif key not in reaches:
            inside = _inside(value)
            if inside:
                above.add(key)
                stack.append((value, inside))
                stack += ((part, None) for _, part in inside)
            elif _count(value) > _SMALL:
                reaches[key] = _least(value)
    return None


def _summed(value: Any, inside: "_Inside", reaches: dict[int, _Reach]) -> _Reach:
    """Return the sums of a container from those of the containers in it.

    The sums are cut: a file could make them numbers of any size.
    """
    paths = module = int(is_module(value))
    entries, characters, depth = _count(value), 0, 0
    for length, part in inside:
        below = reaches.get(id(part)) or _least(part)
        entries += below.entries
        paths += below.paths
        characters += below.characters + length * (1 + below.entries)
        depth = max(depth, below.depth)
    sums = (entries, paths, characters, depth + module)
    return _Reach(*(min(number, sys.maxsize) for number in sums))


def _least(value: Any) -> _Reach:
    """Return the sums of a container with no container in it."""
    module = int(is_module(value))
    return _Reach(_count(value), module, 0, module)


def _count(value: Any) -> int:
    """Return the number of entries of a container; of a module, of its tables."""
    if isinstance(value, Instance):
        return len(value.items) + len(value.elements) + (len(_TABLES) if value.state else 0)
    return len(value)


_Inside = list[tuple[int, Any]]


def _inside(value: Any) -> _Inside:
    """Return the containers in a container with the lengths of their names.

    Of a module these are its tables, and no other attributes.
    """
    if isinstance(value, (list, tuple)):
        return [(0, item) for item in value if isinstance(item, _CONTAINERS)]
    pairs = value.items() if isinstance(value, dict) else _held(value)
    return [(_length(key), item) for key, item in pairs if isinstance(item, _CONTAINERS)]


def _held(made: Instance) -> Sequence[tuple[Any, Any]]:
    if not (made.items or made.elements or made.state):
        return ()
    state = made.state if isinstance(made.state, dict) else {}
    return (
        *made.items,
        *(("", item) for item in made.elements),
        *(("", state.get(name)) for name in _TABLES),
    )


def _length(key: Any) -> int:
    return len(key) if isinstance(key, str) else 0

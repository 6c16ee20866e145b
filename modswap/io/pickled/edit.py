"""Putting modules and weights into a payload that was read as data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modswap.io.pickled.data import Instance, UnreadableError
from modswap.io.pickled.names import key_text
from modswap.io.pickled.outline import is_module, mapping

DEPTH = 32  # containers inside containers in which tensors are looked for
_REBUILDS = ("torch._utils._rebuild_", "torch._tensor._rebuild_from_type_v2")


def value_at(payload: Any, keys: Sequence[str]) -> Any:
    """Return what lies under keys.

    Raises:
        UnreadableError: If there is nothing.
    """
    for key in keys:
        held = mapping(payload)
        if held is None or key not in held:
            raise UnreadableError(f"it holds nothing under {'.'.join(keys)!r}")
        payload = held[key]
    return payload


def put_module(model: Instance, path: str, module: Instance) -> None:
    """Put a module in the place of another one.

    Args:
        model: The model, changed in place.
        path: Dotted path of what is replaced.
        module: What goes in.

    Raises:
        UnreadableError: If there is no such path.
    """
    parent, name = _parent_of(model, path)
    set_item(parent.state["_modules"], name, module)


def _parent_of(model: Instance, path: str) -> tuple[Instance, str]:
    """Return the module that holds a path, and the name under which it does."""
    segments = path.split(".")
    held = mapping(model.state["_modules"]) or {}
    for end in range(1, len(segments) + 1):
        child = held.get(".".join(segments[:end]))
        if child is None or not is_module(child):
            continue
        if end == len(segments):
            return model, path
        return _parent_of(child, ".".join(segments[end:]))
    raise UnreadableError(f"it has no module {path!r}")


def set_item(held: Any, key: Any, value: Any) -> None:
    """Set an item of a dictionary or an ordered one, in its present place if it has one."""
    if isinstance(held, dict):
        held[key] = value
        return
    places = [place for place, (name, _) in enumerate(held.items) if name == key]
    if places:
        held.items[places[-1]] = (key, value)
    else:
        held[key] = value


def remove_item(held: Any, key: Any) -> None:
    """Remove an item of a dictionary or an ordered one."""
    if isinstance(held, dict):
        del held[key]
    else:
        held.items = [pair for pair in held.items if pair[0] != key]


def put_weights(
    held: Any, removed: Sequence[str], added: Mapping[str, Any], versions: Mapping[str, Any]
) -> None:
    """Exchange tensors of a state dict; the new ones come where the first old one was.

    Args:
        held: The state dict, changed in place.
        removed: Beginnings of the names that go, each ending in a dot.
        added: What comes, by name.
        versions: Version numbers of the new layers, by path.
    """
    pairs = list((mapping(held) or {}).items())
    gone = tuple(removed)
    before = next((n for n, (name, _) in enumerate(pairs) if name.startswith(gone)), None)
    if before is None:
        before = _neighbour([name for name, _ in pairs], gone[0])
    first = [pair for pair in pairs[:before] if not pair[0].startswith(gone)]
    rest = [pair for pair in pairs[before:] if not pair[0].startswith(gone)]
    _refill(held, [*first, *added.items(), *rest])
    _set_versions(held, gone, versions)


def _neighbour(names: Sequence[str], prefix: str) -> int:
    """Return the place behind the names that share the most with a prefix."""
    segments = prefix.split(".")[:-1]
    for end in range(len(segments) - 1, 0, -1):
        near = f"{'.'.join(segments[:end])}."
        found = [place for place, name in enumerate(names) if name.startswith(near)]
        if found:
            return found[-1] + 1
    return len(names)


def _refill(held: Any, pairs: list[tuple[Any, Any]]) -> None:
    if isinstance(held, dict):
        held.clear()
        held.update(pairs)
    else:
        held.items = pairs


def _set_versions(held: Any, gone: tuple[str, ...], versions: Mapping[str, Any]) -> None:
    state = getattr(held, "state", None)
    if not isinstance(state, dict):
        return
    old = mapping(state.get("_metadata"))
    if old is None:
        return
    kept = [(path, value) for path, value in old.items() if not f"{path}.".startswith(gone)]
    _refill(state["_metadata"], [*kept, *versions.items()])


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor or a parameter, of whatever kind."""
    called = isinstance(value, Instance) and value.how == "called"
    return called and str(value.what).startswith(_REBUILDS)


def named_tensors(payload: Any) -> Iterator[tuple[str, Instance]]:
    """Yield every tensor inside a payload under a dotted name, shared ones under each name."""
    stack: list[tuple[str, Any, int]] = [("", payload, 0)]
    while stack:
        name, value, depth = stack.pop()
        if is_tensor(value):
            yield name, value
        elif depth < DEPTH * (10 if is_module(value) else 1):
            inside = [
                (f"{name}.{key_text(key)}" if name else key_text(key), v)
                for key, v in _inside(value)
            ]
            stack += [(key, v, depth + 1) for key, v in reversed(inside)]


def _inside(value: Any) -> Iterator[tuple[Any, Any]]:
    if is_module(value):
        for table in ("_parameters", "_buffers", "_modules"):
            yield from (mapping(value.state.get(table)) or {}).items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
    else:
        yield from (mapping(value) or {}).items()

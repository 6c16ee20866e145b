"""Put modules and weights into a payload that was read as data."""

from collections.abc import Mapping, Sequence
from typing import Any

from modswap.io.pickled.data import Instance, UnreadableError
from modswap.io.pickled.values import is_module, mapping


def value_at(payload: Any, keys: Sequence[str]) -> Any:
    """Return the value under a sequence of keys.

    Raises:
        UnreadableError: If there is no such value.
    """
    for key in keys:
        held = mapping(payload)
        if held is None or key not in held:
            raise UnreadableError(f"it holds nothing under {'.'.join(keys)!r}")
        payload = held[key]
    return payload


def put_module(model: Instance, path: str, module: Instance) -> None:
    """Replace a module of a model.

    Args:
        model: The model, changed in place.
        path: Dotted path of the old module.
        module: The new module.

    Raises:
        UnreadableError: If there is no such path.
    """
    parent, name = _parent_of(model, path)
    set_item(parent.state["_modules"], name, module)


def _parent_of(model: Instance, path: str) -> tuple[Instance, str]:
    """Return the module that holds the module of a path, and its name there."""
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
    """Set an item of a dictionary or an ordered dictionary; an old key keeps its place."""
    if isinstance(held, dict):
        held[key] = value
        return
    places = [place for place, (name, _) in enumerate(held.items) if name == key]
    if places:
        held.items[places[-1]] = (key, value)
    else:
        held[key] = value


def remove_item(held: Any, key: Any) -> None:
    """Remove an item of a dictionary or an ordered dictionary."""
    if isinstance(held, dict):
        del held[key]
    else:
        held.items = [pair for pair in held.items if pair[0] != key]


def put_weights(
    held: Any, removed: Sequence[str], added: Mapping[str, Any], versions: Mapping[str, Any]
) -> None:
    """Replace tensors of a state dict; the new ones take the place of the first old one.

    Args:
        held: The state dict, changed in place.
        removed: Beginnings of the names to remove, each ending in a dot.
        added: The new tensors by name.
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
    """Return the place after the names that share the longest beginning with a prefix."""
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

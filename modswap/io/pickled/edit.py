"""Put modules and weights into a payload that was read as data."""

from collections.abc import Mapping, Sequence
from typing import Any

from modswap.io.pickled.data import Instance, UnreadableError
from modswap.io.pickled.values import BLANK, children, class_of, mapping
from modswap.io.rewriting import Removal


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
    """Put a module at a dotted path of a model in place of the old one.

    Raises:
        UnreadableError: If there is no such path.
    """
    segments = path.split(".")
    held = children(model)
    for end in range(1, len(segments) + 1):
        name = ".".join(segments[:end])
        if name not in held:
            continue
        if end == len(segments):
            set_item(model.state["_modules"], name, module)
        else:
            put_module(held[name], ".".join(segments[end:]), module)
        return
    raise UnreadableError(f"it has no module {path!r}")


def put_beside(model: Instance, path: str, insertion: Instance) -> None:
    """Put a module in beside the one that its path is inside, which gets the class for that.

    Raises:
        UnreadableError: If there is no such module.
    """
    around, _, name = path.rpartition(".")
    site = module_at(model, around)
    names = site.state.get("_inserted", ())
    if site.what != BLANK:
        site.how, site.what, site.args = "called", BLANK, (site.what,)
    if name not in names:
        site.state["_inserted"] = (*names, name)
    set_item(site.state["_modules"], name, insertion)


def take_beside(model: Instance, path: str) -> None:
    """Take a module out that was put in beside the one that its path is inside.

    That one is of its plain class after the last.

    Raises:
        UnreadableError: If there is no such module.
    """
    around, _, name = path.rpartition(".")
    site = module_at(model, around)
    if site.what != BLANK:
        return  # another path of the same module has been here
    names = tuple(one for one in site.state.get("_inserted", ()) if one != name)
    remove_item(site.state["_modules"], name)
    if names:
        site.state["_inserted"] = names
        return
    site.how, site.what, site.args = "new", class_of(site), ()
    site.state.pop("_inserted", None)
    if "_inner" in site.state:
        site.state["forward"] = site.state.pop("_inner")


def module_at(model: Instance, path: str) -> Instance:
    """Return the module at a dotted path, whose names may contain dots.

    Raises:
        UnreadableError: If there is no such path.
    """
    segments = path.split(".") if path else []
    for end in range(1, len(segments) + 1):
        child = children(model).get(".".join(segments[:end]))
        if child is not None:
            return module_at(child, ".".join(segments[end:]))
    if segments:
        raise UnreadableError(f"it has no module {path!r}")
    return model


def set_item(held: Any, key: Any, value: Any) -> None:
    """Set an item of a dictionary or an ordered dictionary; an old key keeps its place."""
    _refill(held, list({**(mapping(held) or {}), key: value}.items()))


def remove_item(held: Any, key: Any) -> None:
    """Remove an item of a dictionary or an ordered dictionary."""
    _refill(held, [pair for pair in (mapping(held) or {}).items() if pair[0] != key])


def put_weights(
    held: Any, removal: Removal, added: Mapping[str, Any], versions: Mapping[str, Any]
) -> None:
    """Replace tensors of a state dict; the new ones take the place of the first old one.

    `versions` are the version numbers of the new layers, by path.
    """
    pairs = list((mapping(held) or {}).items())
    before = next((n for n, (name, _) in enumerate(pairs) if name in removal), None)
    if before is None:
        near = next(iter([*removal.prefixes, *added]), "")
        before = _neighbour([name for name, _ in pairs], near)
    first = [pair for pair in pairs[:before] if pair[0] not in removal]
    rest = [pair for pair in pairs[before:] if pair[0] not in removal]
    _refill(held, [*first, *added.items(), *rest])
    _set_versions(held, removal, versions)


def put_heirs(held: Any, heirs: Mapping[str, str]) -> None:
    """Give tensors of a state dict their further names, behind all others."""
    known = mapping(held) or {}
    for alias, name in heirs.items():
        if name in known:
            set_item(held, alias, known[name])


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


def _set_versions(held: Any, removal: Removal, versions: Mapping[str, Any]) -> None:
    state: Any = getattr(held, "state", None)
    old = mapping(state.get("_metadata")) if isinstance(state, dict) else None
    if old is not None:
        kept = [pair for pair in old.items() if f"{pair[0]}." not in removal]
        _refill(state["_metadata"], [*kept, *versions.items()])

"""Where the modules, the settings and the ties of two checkpoints differ."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set

from modswap.core.decided.pairing import renamed
from modswap.core.kept.difference import ClassChange, EntryChange, Lone
from modswap.core.seen.entries import PlainEntry
from modswap.io.formats.contents import Contents, HeldTensor

_OF_MODULES = ("setting", "version")
_NAMES = {
    "setting": "settings of modules",
    "version": "versions of layers",
    "container": "values that a format keeps for itself",
}


def compared_modules(
    a: Contents, b: Contents, moved: Mapping[str, str]
) -> tuple[tuple[Lone, ...], tuple[Lone, ...], tuple[ClassChange, ...]]:
    """Return the modules that only A has, those that only B has, and those that changed."""
    if not a.modules or not b.modules:
        return (), (), ()
    places = module_places(a, b, moved)
    gone = [path for path in a.modules if path not in places] if b.complete else []
    taken = set(places.values())
    come = [path for path in b.modules if path not in taken] if a.complete else []
    changes = [
        ClassChange(path, place, a.modules[path], b.modules[place])
        for path, place in places.items()
        if a.modules[path] != b.modules[place] or _moved_itself(path, place)
    ]
    return tuple(_outermost(gone, a)), tuple(_outermost(come, b)), tuple(changes)


def module_places(a: Contents, b: Contents, moved: Mapping[str, str]) -> dict[str, str]:
    """Return the path in B of each module of A that is in both."""
    found: dict[str, str] = {}
    taken = set()
    for path in a.modules:
        place = renamed(path, moved) or path
        if place not in b.modules or place in taken:
            continue
        found[path] = place
        taken.add(place)
    return found


def _moved_itself(path: str, place: str) -> bool:
    """Return whether a module moved, and not only a module around it."""
    return path != place and path.rpartition(".")[2] != place.rpartition(".")[2]


def _outermost(paths: Sequence[str], side: Contents) -> Iterator[Lone]:
    """Yield the modules that are in none of the others, with their classes."""
    held = set(paths)
    for path in paths:
        if not any(above in held for above in _above(path)):
            yield Lone(path, side.modules[path])


def _above(path: str) -> Iterator[str]:
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def compared_entries(
    a: Contents, b: Contents, moved: Mapping[str, str]
) -> tuple[tuple[EntryChange, ...], int, tuple[str, ...]]:
    """Return the values that differ and are no tensors, how many were compared, and notes."""
    kinds = _compared_kinds(a, b)
    places = module_places(a, b, moved)
    old = {_place(n, e, moved): (n, e) for n, e in _wanted(a, kinds, places.keys())}
    new = dict(_wanted(b, kinds, set(places.values())))
    _leave_lone_versions(old, new)
    changes = [
        EntryChange(name, entry.kind, entry.text, new[place].text if place in new else None)
        for place, (name, entry) in old.items()
        if place not in new or new[place].text != entry.text
    ]
    come = [(name, entry) for name, entry in new.items() if name not in old]
    changes += [EntryChange(name, entry.kind, None, entry.text) for name, entry in come]
    return tuple(changes), len(old.keys() | new.keys()), tuple(_left_out(a, b, kinds))


def _leave_lone_versions(
    old: dict[str, tuple[str, PlainEntry]], new: dict[str, PlainEntry]
) -> None:
    """Take out the versions of layers that one side has: its modules say so already."""
    for place in [p for p, (_, entry) in old.items() if entry.kind == "version" and p not in new]:
        del old[place]
    for place in [p for p, entry in new.items() if entry.kind == "version" and p not in old]:
        del new[place]


def _compared_kinds(a: Contents, b: Contents) -> set[str]:
    """Return the kinds of values that both sides can have."""
    kinds = {"metadata", "optimizer"}
    if all(side.modules and side.complete for side in (a, b)):
        kinds.add("setting")
    if _family(a) == _family(b):
        kinds.add("container")
    versions = [any(e.kind == "version" for e in side.entries.values()) for side in (a, b)]
    return kinds | {"version"} if all(versions) else kinds


def _left_out(a: Contents, b: Contents, kinds: Set[str]) -> Iterator[str]:
    """Say which values are not compared."""
    entries = (*a.entries.values(), *b.entries.values())
    left = Counter(entry.kind for entry in entries if entry.kind not in kinds)
    if left:
        listed = " and ".join(f"{count:,} {_NAMES[kind]}" for kind, count in left.items())
        yield f"not compared, for one side alone has such: {listed}"


def _family(side: Contents) -> str:
    return side.format.partition(" ")[0]


def _wanted(side: Contents, kinds: Set[str], modules: Set[str]) -> Iterator[tuple[str, PlainEntry]]:
    """Yield the values of some kinds; of settings those of modules that are in both."""
    for name, entry in side.entries.items():
        of_module = entry.kind in _OF_MODULES and bool(side.modules)
        if entry.kind in kinds and not (of_module and _owner(name, side.modules) not in modules):
            yield name, entry


def _owner(name: str, modules: Mapping[str, str]) -> str:
    """Return the module that has a setting."""
    return next((path for path in _above(name) if path in modules), "")


def _place(name: str, entry: PlainEntry, moved: Mapping[str, str]) -> str:
    """Return the name that a value has in B."""
    return (renamed(name, moved) or name) if entry.kind in _OF_MODULES else name


def compared_ties(
    a: Mapping[str, HeldTensor], b: Mapping[str, HeldTensor], pairs: Mapping[str, str]
) -> Iterator[EntryChange]:
    """Yield names that are one tensor on one side, and several on the other."""
    back = {new: old for old, new in pairs.items()}
    for side, other, names, one in ((a, b, pairs, True), (b, a, back, False)):
        for first, *others in _groups(side, names):
            for name in others:
                if other[names[name]].identity != other[names[first]].identity:
                    texts = ("one tensor", "two tensors")
                    old, new = texts if one else texts[::-1]
                    yield EntryChange(f"{name} = {first}", "tie", old, new)


def _groups(side: Mapping[str, HeldTensor], names: Mapping[str, str]) -> list[list[str]]:
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name in names:
        if side[name].identity is not None:
            groups[side[name].identity].append(name)
    return [group for group in groups.values() if len(group) > 1]

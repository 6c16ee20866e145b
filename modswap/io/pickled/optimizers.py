"""Give the optimizers of a training checkpoint the parameters of the swapped model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modswap.core.decided.optimizer import Parameter, ParameterGroup, Regrouped, Shape, regroup
from modswap.io.pickled.data import Instance
from modswap.io.pickled.edit import remove_item, set_item
from modswap.io.pickled.names import key_text
from modswap.io.pickled.values import is_module, is_tensor, mapping
from modswap.io.pickled.walk import NamedValue, named_entries

_EMPTY: Mapping[str, Any] = {"state": {}, "param_groups": []}  # no optimizer loads it
_MAX_DEPTH = 3  # containers inside containers in which optimizers are looked for


@dataclass(frozen=True, slots=True)
class Parameters:
    """A model's parameters before and after a swap, in its order."""

    before: Sequence[Parameter]
    after: Sequence[Parameter]
    swapped: tuple[str, ...]  # beginnings of the names in swapped modules, each ending in a dot


@dataclass(frozen=True, slots=True)
class Remapped:
    """The changes of the optimizers of a payload."""

    renamed: Mapping[str, str] = field(default_factory=dict)  # tensors of states, old name → new
    left: tuple[str, ...] = ()  # beginnings of the names of tensors that were left out
    notes: tuple[str, ...] = ()  # a sentence for each optimizer


def remap(payload: Any, parameters: Parameters) -> Remapped:
    """Give every optimizer of a payload the parameters after a swap; the payload is changed.

    An optimizer whose state cannot be assigned to the model's parameters with certainty is left
    out, with a note: it could be loaded without an error and would be wrong.
    """
    changes = []
    for entry in list(_optimizers(payload)):
        regrouped = _regrouped(entry.value, parameters)
        changes.append(_left_out(entry) if regrouped is None else _refilled(entry, regrouped))
    return Remapped(
        {old: new for change in changes for old, new in change.renamed.items()},
        tuple(name for change in changes for name in change.left),
        tuple(note for change in changes for note in change.notes),
    )


def _optimizers(payload: Any) -> Iterator[NamedValue]:
    def enter(entry: NamedValue) -> bool:
        closed = isinstance(entry.value, tuple) or is_module(entry.value) or _is_optimizer(entry)
        return entry.depth <= _MAX_DEPTH and not closed

    yield from filter(_is_optimizer, named_entries(payload, enter))


def _is_optimizer(entry: NamedValue) -> bool:
    held = mapping(entry.value) if entry.depth else None
    return held is not None and {"state", "param_groups"} <= held.keys()


def _regrouped(optimizer: Any, parameters: Parameters) -> Regrouped | None:
    held = mapping(optimizer) or {}
    state, groups = mapping(held["state"]), groups_of(held["param_groups"])
    known = {number for group in groups for number in group.ids}
    if state is None or not groups or not state.keys() <= known:
        return None
    moments = {n: [_shape(t) for t in _tensors(entry).values()] for n, entry in state.items()}
    return regroup(groups, moments, parameters.before, parameters.after, parameters.swapped)


def groups_of(value: Any) -> list[ParameterGroup]:
    """Return the groups of an optimizer; none where one of them is not in the form of torch."""
    groups = []
    for group in value if isinstance(value, list) else []:
        held = mapping(group) or {}
        ids: Any = held.get("params")
        names = held.get("param_names") or []
        if not _is_list_of(ids, int, str) or not _is_list_of(names, str):
            return []
        groups.append(ParameterGroup(tuple(ids), tuple(names)))
    return groups


def _is_list_of(value: Any, *kinds: type) -> bool:
    return isinstance(value, list) and all(type(item) in kinds for item in value)


def _tensors(entry: Any) -> dict[Any, Instance]:
    """Return the tensors that an optimizer keeps for a parameter."""
    return {key: value for key, value in (mapping(entry) or {}).items() if is_tensor(value)}


def _shape(tensor: Instance) -> Shape:
    match tensor.args:
        case (_, _, tuple() as size, *_):
            return size
        case (Instance() as inner, *_):
            return _shape(inner)
    return (-1,)  # no parameter has this shape


def _left_out(entry: NamedValue) -> Remapped:
    if isinstance(entry.holder, list):
        entry.holder[entry.key] = dict(_EMPTY)  # the others keep their places
        if all(value == _EMPTY for value in entry.holder):
            entry.holder.clear()
    else:
        remove_item(entry.holder, entry.key)
    return Remapped(left=(f"{entry.name}.",), notes=(left_out_note(entry.name),))


def left_out_note(name: str) -> str:
    """Return the note about an optimizer that was left out."""
    return (
        f"{name!r} was left out: its state cannot be assigned to the parameters for certain; "
        "build a fresh optimizer before training on"
    )


def _refilled(entry: NamedValue, regrouped: Regrouped) -> Remapped:
    held = mapping(entry.value) or {}
    state: Mapping[Any, Any] = mapping(held["state"]) or {}
    numbers = new_numbers(regrouped)
    # the new number of each old one whose state is kept, in the order of the groups
    moved = {regrouped.ids.get(name): number for name, number in numbers.items()}
    kept = {old: new for old, new in moved.items() if old in state}
    set_item(entry.value, "state", {new: state[old] for old, new in kept.items()})
    for group, names in zip(held["param_groups"], regrouped.groups, strict=True):
        set_item(group, "params", [numbers[name] for name in names])
        if (mapping(group) or {}).get("param_names"):
            set_item(group, "param_names", list(names))
    taken = set(regrouped.ids.values())
    prefix = f"{entry.name}.state"
    dropped = tuple(f"{prefix}.{old}." for old in state if old not in taken)
    renamed = {
        f"{prefix}.{old}.{text}": f"{prefix}.{new}.{text}"
        for old, new in kept.items()
        if old != new
        for text in map(key_text, _tensors(state[old]))
    }
    note = (
        f"{entry.name!r} was remapped by name: the state of {len(kept)} parameters kept, of "
        f"{len(dropped)} dropped; {len(regrouped.fresh)} new ones have none yet"
    )
    return Remapped(renamed, dropped, (note,))


def new_numbers(regrouped: Regrouped) -> dict[str, int | str]:
    """Return the number of each parameter, or its name where optimizers use names, in order."""
    order = [name for group in regrouped.groups for name in group]
    named = {name: number for name, number in regrouped.ids.items() if isinstance(number, str)}
    if not named:
        return {name: place for place, name in enumerate(order)}
    # a name in the optimizer may have a prefix, the same for all
    prefix = next(number.removesuffix(name) for name, number in named.items())
    return {name: f"{prefix}{name}" for name in order}

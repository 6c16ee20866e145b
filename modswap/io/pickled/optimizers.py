"""Finding the optimizers of a training checkpoint, and giving them the parameters of a swap."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modswap.core.decided.optimizer import Group, Parameter, Regrouped, Shape, regroup
from modswap.io.pickled.data import Instance
from modswap.io.pickled.edit import is_tensor, remove_item, set_item
from modswap.io.pickled.names import key_text
from modswap.io.pickled.outline import is_module, mapping

_NOTHING: dict[str, Any] = {"state": {}, "param_groups": []}  # which no optimizer loads
_DEPTH = 3  # containers inside containers in which optimizers are looked for


@dataclass(frozen=True, slots=True)
class Parameters:
    """A model's parameters before and after a swap, in its order.

    Args:
        before: Before it.
        after: After it.
        swapped: Beginnings of the names that belong to swapped modules, each ending in a dot.
    """

    before: Sequence[Parameter]
    after: Sequence[Parameter]
    swapped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remapped:
    """What became of the optimizers.

    Args:
        renamed: Tensors of their states, old name → new name.
        left: Beginnings of the names of tensors that were left out.
        notes: A sentence for each optimizer.
    """

    renamed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Found(NamedTuple):
    """An optimizer's state, and what holds it."""

    name: str
    holder: Any
    key: Any
    value: Any


def remap(payload: Any, parameters: Parameters) -> Remapped:
    """Give every optimizer of a payload the parameters after a swap; the payload is changed.

    One that cannot be told to belong to the model's parameters is left out, and that is said:
    left as it is, it could be loaded without an error and would be wrong.
    """
    done = Remapped()
    for found in list(_optimizers(payload, "", 0)):
        changed = _regrouped(found.value, parameters)
        if changed is None:
            _leave_out(found, done)
        else:
            _refill(found, changed, done)
    return done


def _optimizers(value: Any, name: str, depth: int) -> Iterator[_Found]:
    if depth > _DEPTH or is_module(value):
        return
    pairs = enumerate(value) if isinstance(value, list) else (mapping(value) or {}).items()
    for key, item in list(pairs):
        place = f"{name}.{key_text(key)}" if name else key_text(key)
        held = mapping(item)
        if held is not None and {"state", "param_groups"} <= held.keys():
            yield _Found(place, value, key, item)
        else:
            yield from _optimizers(item, place, depth + 1)


def _regrouped(optimizer: Any, parameters: Parameters) -> Regrouped | None:
    held = mapping(optimizer) or {}
    state, groups = mapping(held["state"]), held["param_groups"]
    if state is None or not isinstance(groups, list):
        return None
    found = [_group(group) for group in groups]
    known = [group for group in found if group is not None]
    if len(known) < len(found) or not known:
        return None
    moments = {number: _shapes(entry) for number, entry in state.items()}
    if not moments.keys() <= {number for group in known for number in group.ids}:
        return None
    return regroup(known, moments, parameters.before, parameters.after, parameters.swapped)


def _group(value: Any) -> Group | None:
    held = mapping(value) or {}
    ids, names = held.get("params"), held.get("param_names") or []
    plain = isinstance(ids, list) and all(type(number) in {int, str} for number in ids)
    named = isinstance(names, list) and all(type(name) is str for name in names)
    return Group(tuple(ids), tuple(names)) if plain and named and ids is not None else None


def _shapes(entry: Any) -> list[Shape]:
    """Return the shapes of the tensors that an optimizer keeps for a parameter."""
    tensors = [value for value in (mapping(entry) or {}).values() if is_tensor(value)]
    return [_shape(tensor) for tensor in tensors]


def _shape(tensor: Instance) -> Shape:
    match tensor.args:
        case (_, _, tuple() as size, *_):
            return size
        case (Instance() as inner, *_):
            return _shape(inner)
    return (-1,)  # of a kind that no parameter has


def _leave_out(found: _Found, done: Remapped) -> None:
    done.left.append(f"{found.name}.")
    if isinstance(found.holder, list):
        found.holder[found.key] = dict(_NOTHING)  # the others keep their places
        if all(value == _NOTHING for value in found.holder):
            found.holder.clear()
    else:
        remove_item(found.holder, found.key)
    done.notes.append(
        f"{found.name!r} was left out: which of its state belongs to which parameter cannot be "
        "told for certain; build a fresh optimizer before training on"
    )


def _refill(found: _Found, changed: Regrouped, done: Remapped) -> None:
    held = mapping(found.value) or {}
    state: Mapping[Any, Any] = mapping(held["state"]) or {}
    numbers = _numbers(changed)
    entries = {}
    for name, old in sorted(changed.ids.items(), key=lambda item: numbers[item[0]][0]):
        new = numbers[name][1]
        if old in state:
            entries[new] = state[old]
            _rename(f"{found.name}.state.{old}.", f"{found.name}.state.{new}.", state[old], done)
    dropped = [number for number in state if number not in set(changed.ids.values())]
    done.left.extend(f"{found.name}.state.{number}." for number in dropped)
    set_item(found.value, "state", entries)
    for group, names in zip(held["param_groups"], changed.groups, strict=True):
        set_item(group, "params", [numbers[name][1] for name in names])
        if (mapping(group) or {}).get("param_names"):
            set_item(group, "param_names", list(names))
    done.notes.append(
        f"{found.name!r} was remapped by name: the state of {len(entries)} parameters kept, of "
        f"{len(dropped)} dropped; {len(changed.fresh)} new ones have none yet"
    )


def _numbers(changed: Regrouped) -> dict[str, tuple[int, int | str]]:
    """Return each name's place in the order of the groups, and the number that it goes by."""
    order = [name for group in changed.groups for name in group]
    named = {name: number for name, number in changed.ids.items() if isinstance(number, str)}
    if not named:
        return {name: (place, place) for place, name in enumerate(order)}
    # by name, where every name may have something before it
    prefix = next(number.removesuffix(name) for name, number in named.items())
    return {name: (place, f"{prefix}{name}") for place, name in enumerate(order)}


def _rename(old: str, new: str, entry: Any, done: Remapped) -> None:
    tensors = [key for key, value in (mapping(entry) or {}).items() if is_tensor(value)]
    if old != new:
        texts = [key_text(key) for key in tensors]
        done.renamed.update({f"{old}{text}": f"{new}{text}" for text in texts})

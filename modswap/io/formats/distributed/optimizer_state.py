"""The optimizers of a distributed checkpoint, kept by name, over the parameters of a swap."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from modswap.core.decided.optimizer import ParameterGroup, Regrouped, Shape, regroup
from modswap.io.formats.distributed.metadata import Distributed, Item
from modswap.io.formats.distributed.rewrite import Fresh, fresh
from modswap.io.pickled.data import UnreadableError, read_pickle
from modswap.io.pickled.opened import PICKLE, content
from modswap.io.pickled.optimizers import Parameters, groups_of, left_out_note, new_numbers
from modswap.io.raw.byte_range import ByteRange
from modswap.io.raw.torch_zip_layout import read_inner_archive

Keys = tuple[str | int, ...]
_SMALL = 1 << 20  # bytes of an object that is read


@dataclass(slots=True)
class OptimizerChanges:
    """The changes to the optimizers of a checkpoint, with a note for each.

    Names that are `gone` may come again among the `fresh` items, which are moments of new
    parameters, and objects; `prefixes` are beginnings of the names of new moments.
    """

    gone: list[str] = field(default_factory=list)
    fresh: list[Fresh] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    # entries of kept parameters that get other numbers: the old name and the new keys
    moved: dict[str, Keys] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Optimizer:
    """An optimizer's entries below the keys of its root, which are joined by dots to one if `flat`.

    Its state is by parameter and key; its settings by the number of the group or by parameter, and
    key.
    """

    root: Keys
    flat: bool
    state: dict[str, dict[str, Item]] = field(default_factory=dict)
    groups: dict[str, dict[str, Item]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return _dotted(self.root)

    def keys(self, *below: str | int) -> Keys:
        return (*self.root, _dotted(below)) if self.flat else (*self.root, *below)


def _dotted(keys: Keys) -> str:
    return ".".join(map(str, keys))


def keep(source: Distributed, parameters: Parameters) -> OptimizerChanges:
    """Return the changes to the optimizers of a checkpoint when modules are swapped.

    An optimizer that cannot be assigned to the model's parameters is left out, with a note.
    """
    done = OptimizerChanges()
    for optimizer in _optimizers(source.items.values()):
        groups = _groups(optimizer, source)
        numbered = any(isinstance(one, int) for group in groups for one in group.ids)
        moments: dict[int | str, list[Shape]] = {
            int(name) if numbered and name.isdecimal() else name: [
                item.shape for item in entries.values() if item.dtype
            ]
            for name, entries in optimizer.state.items()
        }
        changed = None
        if groups and moments.keys() <= {number for group in groups for number in group.ids}:
            changed = regroup(
                groups, moments, parameters.before, parameters.after, parameters.swapped
            )
        if changed is None:
            _leave_out(optimizer, done)
        else:
            _Refilled(optimizer, changed, parameters, source, done).fill()
    return done


def _optimizers(items: Iterable[Item]) -> Iterator[_Optimizer]:
    found: dict[Keys, _Optimizer] = {}
    for item in items:
        for root, flat, part, name, key in _parsed(item.keys):
            optimizer = found.setdefault(root, _Optimizer(root, flat))
            table = optimizer.state if part == "state" else optimizer.groups
            table.setdefault(name, {})[key] = item
    yield from (optimizer for optimizer in found.values() if optimizer.state and optimizer.groups)


def _parsed(keys: Keys) -> Iterator[tuple[Keys, bool, str, str, str]]:
    """Yield optimizer, whether it is flat, part of it, parameter or group, and key of an entry."""
    match keys:
        case (*root, ("state" | "param_groups") as part, (str() | int()) as name, str() as key):
            yield tuple(root), False, part, str(name), key
        case (*root, "param_groups"):  # all groups as one object
            yield tuple(root), False, "param_groups", "", ""
        case (*root, str() as last) if last.startswith(("state.", "param_groups.")):
            table, _, rest = last.partition(".")
            name, _, key = rest.rpartition(".")
            yield tuple(root), True, table, name, key


def _groups(optimizer: _Optimizer, source: Distributed) -> list[ParameterGroup]:
    """Return an optimizer's groups; empty if their parameters are not known."""
    if optimizer.flat:
        return [ParameterGroup(tuple(dict.fromkeys((*optimizer.groups, *optimizer.state))))]
    groups = []
    for number, entries in sorted(optimizer.groups.items(), key=_number):
        held = {key: _value(entries.get(key), source) for key in ("params", "param_names")}
        found = groups_of([held]) if number else []
        if not found:
            return []
        groups += found
    return groups


def _number(entry: tuple[str, object]) -> int:
    return int(entry[0]) if entry[0].isdecimal() else -1


def _value(item: Item | None, source: Distributed) -> Any:
    """Return an object that is no tensor, read as data; None if it cannot be."""
    if item is None or item.dtype or item.chunks[0].nbytes > _SMALL:
        return None
    chunk = item.chunks[0]
    try:
        archive = read_inner_archive(source.folder / chunk.file, chunk.start, chunk.nbytes)
        return read_pickle(content(archive.records[PICKLE]))[0]
    except (ValueError, KeyError, UnreadableError):
        return None  # its own program reports the fault


def _bytes(item: Item, source: Distributed) -> bytes:
    chunk = item.chunks[0]
    return content(ByteRange(chunk.nbytes, source.folder / chunk.file, chunk.start))


def _leave_out(optimizer: _Optimizer, done: OptimizerChanges) -> None:
    tables = (*optimizer.state.values(), *optimizer.groups.values())
    done.gone += [item.name for entries in tables for item in entries.values()]
    done.notes.append(left_out_note(optimizer.name))


class _Refilled:
    """An optimizer that gets the parameters after a swap."""

    def __init__(
        self,
        optimizer: _Optimizer,
        changed: Regrouped,
        parameters: Parameters,
        source: Distributed,
        done: OptimizerChanges,
    ) -> None:
        self.optimizer = optimizer
        self.changed = changed
        self.source = source
        self.done = done
        self.shapes = {p.name: p.shape for p in (*parameters.before, *parameters.after)}
        self.old = {p.name: p.shape for p in parameters.before}
        self.names = {str(number): name for name, number in changed.ids.items()}
        self.targets = new_numbers(changed)

    def fill(self) -> None:
        """Drop the state of old parameters, and add state for new ones."""
        dropped = self._drop()
        self._move()
        started = [name for name in self.changed.fresh if self._start(name)]
        if not self.optimizer.flat:
            self._put_groups()
        rest = len(self.changed.fresh) - len(started)
        left = f"; {len(started)} new ones start from zeros, as in a fresh optimizer"
        left += f"; {rest} new ones have none yet" if rest else ""
        self.done.notes.append(
            f"{self.optimizer.name!r} was remapped by name: the state of "
            f"{len(self.optimizer.state) - len(dropped)} parameters kept, of {len(dropped)} "
            f"dropped{left}"
        )

    def _drop(self) -> list[str]:
        """Drop the entries of parameters that are gone; return those that had state."""
        kept = {str(number) for number in self.changed.ids.values()}
        dropped = [name for name in self.optimizer.state if name not in kept]
        tables = [self.optimizer.state[name] for name in dropped]
        if self.optimizer.flat:
            tables += [held for name, held in self.optimizer.groups.items() if name not in kept]
        self.done.gone += [item.name for entries in tables for item in entries.values()]
        return dropped

    def _move(self) -> None:
        """Give the entries of kept parameters their new numbers."""
        for number, entries in self.optimizer.state.items():
            target = self.targets.get(self.names.get(number, ""), number)
            if str(target) != number:
                for key, item in entries.items():
                    self.done.moved[item.name] = self.optimizer.keys("state", target, key)

    def _start(self, name: str) -> bool:
        """Add the state of a fresh optimizer for a parameter, in the form of a kept one's."""
        like = self._like(name)
        full = str(self.targets[name])
        optimizer, done = self.optimizer, self.done
        entries = optimizer.state[like].items() if like is not None else ()
        moments = [self._moment(key, item, str(like), name) for key, item in entries]
        known = [moment for moment in moments if moment is not None]
        if like is None or len(known) < len(moments):
            return False
        done.fresh += known
        done.prefixes.append(f"{optimizer.name}.state.{full}.".removeprefix("."))
        settings = optimizer.groups.get(like, {}) if optimizer.flat else {}
        for key, item in settings.items():
            keys = optimizer.keys("param_groups", full, key)
            done.fresh.append(Fresh(_dotted(keys), keys, _bytes(item, self.source)))
        return True

    def _moment(self, key: str, item: Item, like: str, name: str) -> Fresh | None:
        """Return the value of a fresh optimizer under a key; None if it is not known."""
        keys = self.optimizer.keys("state", self.targets[name], key)
        if item.dtype:
            old = self.old[self.names[like]]
            shape = self.shapes[name] if item.shape == old and key != "step" else item.shape
            follows = item.shape == old or item.shape in {(), (1,)}
            zeros = torch.zeros(shape, dtype=getattr(torch, item.dtype))
            return fresh(keys, zeros) if follows else None
        number = type(_value(item, self.source)) in {int, float}
        return fresh(keys, 0) if number else None

    def _like(self, name: str) -> str | None:
        """Return a kept parameter with state of a new one's group and kind."""
        group = next(group for group in self.changed.groups if name in group)
        new = self.shapes[name]
        held = (
            number
            for n, number in ((n, str(self.changed.ids.get(n))) for n in group)
            # factored optimizers keep something else of matrices than of vectors
            if number in self.optimizer.state and (len(self.old[n]) > 1) == (len(new) > 1)
        )
        return next(held, None)

    def _put_groups(self) -> None:
        numbers = sorted(self.optimizer.groups, key=int)
        for number, names in zip(numbers, self.changed.groups, strict=True):
            item = self.optimizer.groups[number]["params"]
            self._put(item, [self.targets[name] for name in names])
            if (own := self.optimizer.groups[number].get("param_names")) is not None:
                self._put(own, list(names))

    def _put(self, item: Item, value: Any) -> None:
        """Give an entry another value."""
        self.done.gone.append(item.name)
        self.done.fresh.append(replace(fresh(item.keys, value), name=item.name))

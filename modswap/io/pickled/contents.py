"""Read everything in a payload that was read as data: tensors, modules, and all other values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modswap.core.kept.difference import Kind
from modswap.core.seen.entries import PlainEntry, in_short, is_optimizer, name_of, text_of
from modswap.io.pickled.data import Instance, Name, Storage
from modswap.io.pickled.modules import likely_parameters, named_parameters
from modswap.io.pickled.names import key_text
from modswap.io.pickled.optimizers import groups_of
from modswap.io.pickled.outline import FoundModel, places
from modswap.io.pickled.values import (
    class_of,
    is_module,
    mapping,
    table,
    tensor_parts,
    without_wrappers,
)
from modswap.io.pickled.walk import named_modules
from modswap.io.recognise.model_places import common_prefix

_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
# what torch keeps for itself, and other versions of it keep otherwise
_OF_TORCH = frozenset(("_is_full_backward_hook", "_is_hf_initialized"))
VERSION = "<version>"  # the end of the names of torch's versions of layers
_CONTAINERS = (Instance, Storage, dict, list, tuple)


_Waiting = tuple[str, Any, str]  # name, value and kind


@dataclass(slots=True)
class PayloadContents:
    """Everything in a payload, by name; `optional` has buffers that are not persistent."""

    tensors: dict[str, tuple[Any, Kind]] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    entries: dict[str, PlainEntry] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    numbered: dict[str, str] = field(default_factory=dict)
    grouped: dict[str, str] = field(default_factory=dict)
    place: str = ""


def payload_contents(payload: Any) -> PayloadContents:
    """Return everything in a payload.

    Raises:
        CostlyError: If modules are nested too deep, or have too many paths.
    """
    reader = _PayloadReader()
    found = next(places(payload), None)
    if found is not None:
        reader.read_model(found)
    reader.read_rest(payload, found)
    return reader.found


class _PayloadReader:
    """A walk through a payload; each object that is no container is entered once."""

    def __init__(self) -> None:
        self.found = PayloadContents()
        self.names: dict[int, str] = {}  # of objects that were met
        self.parameters: tuple[str, ...] = ()
        # values to read, with their names and kinds
        self.waiting: list[_Waiting] = []

    def read_model(self, found: FoundModel) -> None:
        """Read the model, or its weights."""
        whole = is_module(found.value)
        if whole:
            model, prefix = without_wrappers(found.value)
            self.parameters = tuple(one.name for one in named_parameters(model))
            for path, module in named_modules(model):
                self.found.modules[path] = str(class_of(module))
                if self.names.setdefault(id(module), f"module {path}") == f"module {path}":
                    self._read_module(path, module)
                else:
                    self._read_tables(path, module)
        else:
            named = mapping(found.value) or {}
            prefix = common_prefix(list(named))
            self.parameters = tuple(one.name for one in likely_parameters(named, prefix))
            for name, value in named.items():
                self._put(str(name).removeprefix(prefix), value, "weights", "metadata")
            self._push_versions(found.value, prefix)
        where = ".".join(found.keys)
        inside = f", every name after {prefix!r}" if prefix else ""
        self.found.place = f"under {where!r}{inside}" if where else inside[2:]
        self._drain()

    def _push_versions(self, weights: Any, prefix: str) -> None:
        """Read the numbers of versions that torch puts beside a state dict."""
        state = weights.state if isinstance(weights, Instance) else None
        held = mapping((state or {}).get("_metadata")) if isinstance(state, dict) else None
        for path, value in reversed(list((held or {}).items())):
            place = f"{path}.".removeprefix(prefix)
            known = mapping(value) or {}
            number = known["version"] if known.keys() == {"version"} else value
            self.waiting.append((f"{place.lstrip('.')}{VERSION}", number, "version"))

    def _read_module(self, path: str, module: Instance) -> None:
        """Read the tensors and the attributes of a module, but not the modules in it."""
        self._read_tables(path, module)
        start = f"{path}." if path else ""
        for key, value in _attributes(module).items():
            self._put(f"{start}{key_text(key)}", value, "other", "setting")

    def _read_tables(self, path: str, module: Instance) -> None:
        start = f"{path}." if path else ""
        left_out = module.state.get("_non_persistent_buffers_set")
        transient = set(_texts_in(left_out))
        for name in ("_parameters", "_buffers"):
            for key, value in table(module, name).items():
                full = f"{start}{key_text(key)}"
                if name == "_buffers" and key in transient:
                    self.found.optional.add(full)
                    self._note(f"{full}.persistent", "False", "setting")
                self._put(full, value, "weights", "setting")

    def read_rest(self, payload: Any, found: FoundModel | None) -> None:
        """Read what a payload holds beside the model."""
        if found is not None:
            self.waiting += reversed(list(_beside_model(payload, found.keys)))
        elif mapping(payload) is None:
            self.waiting.append(("payload", payload, "metadata"))
        else:  # tensors among other values, which no program loads as a model
            for key, value in (mapping(payload) or {}).items():
                kind = "optimizer" if is_optimizer(key) else "metadata"
                self._put(key_text(key), value, "weights", kind)
        self._drain()

    def _drain(self) -> None:
        while self.waiting:
            name, value, kind = self.waiting.pop()
            of_tensor: Kind = "optimizer" if kind == "optimizer" else "other"
            self._put(name, value, of_tensor, kind)

    def _put(self, name: str, value: Any, kind: Kind, entry: str) -> None:
        """Note a value under a name that no other has, and put aside what is inside it."""
        if tensor_parts(value) is not None or isinstance(value, Storage):
            self._put_tensor(name, value, kind, entry)
            return
        inside = list(self._inside(name, value, entry))
        if not inside and not isinstance(value, Instance):
            self._note(name, _plain_text(value), entry)
        self.waiting += reversed(inside)

    def _put_tensor(self, name: str, value: Any, kind: Kind, entry: str) -> None:
        known = self.names.setdefault(id(value), f"tensor {name}")
        if entry == "setting" and kind != "weights" and known != f"tensor {name}":
            self._note(name, known, entry)  # an attribute that is a parameter of the model
            return
        self.found.tensors[_unused(name, self.found.tensors)] = value, kind
        self.waiting += [(f"{name}.{key}", item, entry) for key, item in _beside(value)]

    def _note(self, name: str, text: str, kind: str) -> None:
        self.found.entries[_unused(name, self.found.entries)] = PlainEntry(text, kind)

    def _inside(self, name: str, value: Any, kind: str) -> Iterator[_Waiting]:
        """Yield the values inside a value, with their names and kinds."""
        held = mapping(value)
        if held is not None:
            yield from self._inside_mapping(name, value, held, kind)
        elif is_module(value):
            yield from self._inside_module(name, value, kind)
        elif isinstance(value, Instance):
            yield from self._inside_object(name, value, kind)
        elif _holds_containers(value):
            yield from ((_joined(name, n), item, kind) for n, item in enumerate(value))

    def _inside_mapping(
        self, name: str, value: Any, held: Mapping[Any, Any], kind: str
    ) -> Iterator[_Waiting]:
        if {"state", "param_groups"} <= held.keys():
            kind = "optimizer"
            self._number(name, held)
        if isinstance(value, Instance):
            yield from self._about(name, value, kind)
        yield from _named(name, held, kind)

    def _about(self, name: str, value: Instance, kind: str) -> Iterator[_Waiting]:
        """Yield what an ordered dictionary holds beside its items."""
        if value.state:
            yield _joined(name, "<state>"), value.state, kind
        if not value.items:
            self._note(name, "{}", kind)

    def _inside_object(self, name: str, value: Instance, kind: str) -> Iterator[_Waiting]:
        """Yield the parts of an object that is no module, tensor or dictionary."""
        known = self.names.setdefault(id(value), f"object {name}")
        if known != f"object {name}":
            self._note(name, known, kind)
            return
        plain = not _holds_containers(value.args)
        args = ", ".join(map(_plain_text, value.args)) if plain else "…"
        self._note(name, in_short(f"{value.what}({args})"), kind)
        if not plain:
            yield _joined(name, "<arguments>"), list(value.args), kind
        if isinstance(value.state, dict):
            yield from _named(name, value.state, kind)
        elif value.state is not None:
            yield _joined(name, "<state>"), value.state, kind
        parts = ("<items>", list(map(list, value.items))), ("<elements>", list(value.elements))
        yield from ((_joined(name, key), held, kind) for key, held in parts if held)

    def _inside_module(self, name: str, module: Instance, kind: str) -> Iterator[_Waiting]:
        """Yield the parts of a module that is not in the tree of the model."""
        known = self.names.setdefault(id(module), f"module {name}")
        own = known == f"module {name}"
        self._note(name, str(class_of(module)) if own else known, kind)
        if not own:
            return
        for key in _TABLES[:3]:
            yield from _named(name, table(module, key), kind)
        yield from _named(name, _attributes(module), kind)

    def _number(self, name: str, optimizer: Mapping[Any, Any]) -> None:
        """Note the names of the parameters that an optimizer numbers, where their counts agree."""
        groups = groups_of(optimizer["param_groups"])
        ids = [number for group in groups for number in group.ids]
        if len(ids) != len(self.parameters) or len(set(ids)) < len(ids):
            return
        names = dict(zip(ids, self.parameters, strict=True))
        state = _joined(name, "state")
        for number, parameter in names.items():
            self.found.numbered[f"{state}.{number}"] = f"{state}.{parameter}"
        for place, group in enumerate(groups):
            key = f"{_joined(name, 'param_groups')}.{place}.params"
            self.found.grouped[key] = ", ".join(names[number] for number in group.ids)


def _beside_model(payload: Any, keys: Sequence[str]) -> Iterator[_Waiting]:
    """Yield the values beside the model, at each level of the keys that lead to it."""
    held: Any = payload
    above: tuple[str, ...] = ()
    for model_key in keys:
        inside = mapping(held) or {}
        for key, value in inside.items():
            if key != model_key:
                kind = "optimizer" if is_optimizer(key) else "metadata"
                yield name_of([*above, key_text(key)]), value, kind
        held, above = inside[model_key], (*above, model_key)


def _named(name: str, held: Mapping[Any, Any], kind: str) -> Iterator[_Waiting]:
    return ((_joined(name, key_text(key)), value, kind) for key, value in held.items())


def _attributes(module: Instance) -> dict[Any, Any]:
    """Return the attributes of a module but its tables, and hooks that there are none of."""
    return {
        key: value
        for key, value in module.state.items()
        if key not in _TABLES and key not in _OF_TORCH and not _is_no_hook(key, value)
    }


def _holds_containers(value: Any) -> bool:
    listed = isinstance(value, (list, tuple))
    return listed and any(isinstance(item, _CONTAINERS) for item in value)


def _plain_text(value: Any) -> str:
    """Return a value without containers in it as text."""
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, (list, tuple)):
        return text_of(type(value)(str(one) if isinstance(one, Name) else one for one in value))
    return text_of(value)


def _beside(tensor: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the call that makes a tensor says beside its size and its storage."""
    name = str(tensor.what) if isinstance(tensor, Instance) else ""
    args: Any = tensor.args if isinstance(tensor, Instance) else ()
    if name.endswith(("._rebuild_parameter", "._rebuild_parameter_with_state")):
        if len(args) > 1 and args[1] is False:
            yield "requires_grad", False
        if len(args) > 3 and args[3]:
            yield "<state>", args[3]
        yield from _beside(args[0])
    elif name.endswith("._rebuild_qtensor") and len(args) > 4:
        yield "<quantizer>", args[4]
    elif name.endswith("._rebuild_from_type_v2") and len(args) > 3:
        yield "<class>", args[1]
        yield "<state>", args[3]


def _joined(name: str, key: object) -> str:
    return f"{name}.{key}" if ":" in name or "." in name else f"{name}:{key}"


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    number, unused = 1, name
    while unused in taken:
        number += 1
        unused = f"{name}#{number}"
    return unused


def _is_no_hook(key: Any, value: Any) -> bool:
    """Return whether an attribute of a module is a table for hooks with nothing in it."""
    held = mapping(value)
    return isinstance(key, str) and "hooks" in key and held is not None and not held


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a set, as pickles make it."""
    args: Any = value.args if isinstance(value, Instance) else ()
    yield from (item for arg in args if isinstance(arg, list) for item in arg)

"""The module tree of a zip of `torch.save`, from its pickle read as data."""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from modswap.core.seen.tree import Tree, TreeRow, Wanted
from modswap.io.pickled.data import (
    MAX_PICKLE_BYTES,
    Instance,
    Name,
    Storage,
    UnreadableError,
    read_pickle,
    read_pickles,
)
from modswap.io.pickled.names import is_name, runs_code
from modswap.io.recognise.implied_tree import WEIGHTS, elements, implied_rows
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import KEYS, common_prefix

DEPTH = 200  # modules inside modules
# names that every safe reader knows, or that build torch's own data
_KNOWN = ("torch.nn.", "torch._utils._rebuild_", "collections.", "modswap.nn.", "modswap.ops.demo.")
ITEM_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8, "QInt32": 4, "QInt8": 1,
    "QUInt8": 1, "Untyped": 1,
}  # fmt: skip
_DTYPES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex128": 16,
    "complex64": 8, "complex32": 4,
}  # fmt: skip


class Parts(NamedTuple):
    """What is known of a tensor without its bytes."""

    numel: int
    itemsize: int
    stored: Any = None

    @property
    def nbytes(self) -> int:
        """Return its bytes."""
        return self.numel * self.itemsize


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A place in a payload where a model or its weights sit.

    Args:
        keys: Keys from the payload down to it.
        value: What sits there.
    """

    keys: tuple[str, ...]
    value: Any


def torch_outline(look: Look) -> Tree | None:
    """Return the tree of a file of `torch.save`; None if only torch can tell what it holds.

    Raises:
        CheckpointError: If it is damaged.
    """
    try:
        payload, names = payload_of(look)
        found = list(places(payload))
        if not found:
            return None
        rows, notes = rows_of(found[0].value)
    except (UnreadableError, RecursionError):
        return None  # torch's own reader says what is wrong with it
    wanted = tuple(_judged(name) for name in names if not _known(name))
    kind = "torch" if look.names else "torch (legacy)"
    return Tree(str(look.file), kind, rows, notes=(*notes, *_others(found)), wanted=wanted)


def payload_of(look: Look) -> tuple[Any, tuple[Name, ...]]:
    """Return what the pickle of a torch file holds, as data, and the names in it.

    Raises:
        UnreadableError: If it cannot be read so.
        CheckpointError: If it is damaged.
    """
    if look.names:
        return read_pickle(_pickle_of(look))
    with look.file.open("rb") as stream:  # magic number, version and system come before it
        (*_, payload), names = read_pickles(stream, 4)
    return payload, names


def _pickle_of(look: Look) -> bytes:
    name = next(name for name in look.names if name.partition("/")[2] == "data.pkl")
    with zipfile.ZipFile(look.file) as archive:
        entry = archive.getinfo(name)
        if entry.file_size > MAX_PICKLE_BYTES:
            raise UnreadableError("its pickle is too large")
        if not entry.CRC:  # torch can be told to write none
            entry.CRC = None  # type: ignore[assignment]
        try:
            return archive.read(entry)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            what = f"it is damaged: {error}"
            raise look.error(what, "save or download it again") from None


def _known(name: Name) -> bool:
    # what Python 2 called builtins is how protocol 2 writes them
    dotted = str(name).replace("__builtin__.", "builtins.")
    data = name.module in {"torch", "__builtin__", "builtins"} or dotted.startswith(_KNOWN)
    return data and not runs_code(dotted)


def _judged(name: Name) -> Wanted:
    dotted = str(name)
    if runs_code(dotted) or not is_name(dotted):
        return Wanted(dotted, "can run any code", "")
    if name.module == "__main__":
        return Wanted(dotted, "moved", f"--alias {dotted}=yourmodule.{name.attribute}")
    return Wanted(dotted, "not allowed by itself", f"--allow {dotted}")


def places(payload: Any) -> Iterator[ModelPlace]:
    """Yield where models sit, the primary place first."""
    if _is_model(payload):
        yield ModelPlace((), payload)
        return
    top = mapping(payload) or {}
    for key in KEYS:
        if _is_model(top.get(key)):
            yield ModelPlace((key,), top[key])
        else:
            inner = mapping(top.get(key)) or {}
            yield from (ModelPlace((key, k), inner[k]) for k in KEYS if _is_model(inner.get(k)))


def _is_model(value: Any) -> bool:
    return is_module(value) or is_weights(value)


def is_module(value: Any) -> bool:
    """Return whether a value is a module: it would be made, and has the tables of one."""
    state = value.state if isinstance(value, Instance) else None
    return isinstance(state, dict) and {"_modules", "_parameters"} <= state.keys()


def is_weights(value: Any) -> bool:
    """Return whether a value is a flat state dict: tensors by name, a few of other kinds."""
    entries = mapping(value)
    if not entries or not all(isinstance(name, str) for name in entries):
        return False
    tensors = [name for name, item in entries.items() if tensor_parts(item) is not None]
    others = entries.keys() - set(tensors)
    return bool(tensors) and all(name.endswith("_extra_state") for name in others)


def mapping(value: Any) -> Mapping[Any, Any] | None:
    """Return the entries of a dictionary or an ordered one."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Instance) and str(value.what) == "collections.OrderedDict":
        try:
            return dict(value.items)
        except TypeError:
            return None  # keys that cannot be keys
    return None


def tensor_parts(value: Any) -> Parts | None:
    """Return what is known of a tensor, or None if it is none."""
    if not isinstance(value, Instance) or value.how != "called":
        return None
    match str(value.what).removeprefix("torch._utils."), value.args:
        case "_rebuild_parameter" | "_rebuild_parameter_with_state", (inner, *_):
            return tensor_parts(inner)
        case "_rebuild_tensor_v3", (Storage(), _, size, _, _, _, Name() as dtype, *_):
            return _sized(size, _DTYPES.get(dtype.attribute, 1), value.args[0])
        case (
            "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_qtensor",
            (Storage() as stored, _, size, *_),
        ):
            kind = stored.kind.attribute.removesuffix("Storage")
            return _sized(size, ITEM_BYTES.get(kind, 1), stored)
        case "torch._tensor._rebuild_from_type_v2", (Name() as make, _, tuple() as args, *_):
            return tensor_parts(Instance("called", make, args))
    return None


def _sized(size: Any, itemsize: int, stored: Storage) -> Parts | None:
    if isinstance(size, Instance) and str(size.what) == "torch.Size" and size.args:
        size = tuple(size.args[0]) if isinstance(size.args[0], (list, tuple)) else None
    numel = elements(size) if isinstance(size, tuple) else None
    return None if numel is None else Parts(numel, itemsize, stored)


def rows_of(value: Any) -> tuple[tuple[TreeRow, ...], tuple[str, ...]]:
    """Return the rows of a model's tree, and what is worth telling of them.

    Raises:
        UnreadableError: If a module contains itself, or they are nested too deep.
    """
    if is_module(value):
        return tuple(_walk(unwrapped(value))), ()
    sizes = weight_sizes(value)
    prefix = common_prefix(list(sizes))
    return implied_rows({name.removeprefix(prefix): size for name, size in sizes.items()}), (
        WEIGHTS,
    )


def weight_sizes(value: Any) -> dict[str, tuple[int, int]]:
    """Return elements and bytes of every tensor of a state dict."""
    named = {name: tensor_parts(item) for name, item in (mapping(value) or {}).items()}
    return {name: (t.numel, t.nbytes) for name, t in named.items() if t is not None}


def unwrapped(module: Instance) -> Instance:
    """Return the module inside wrappers such as DataParallel."""
    return without_wrappers(module)[0]


def without_wrappers(module: Instance) -> tuple[Instance, str]:
    """Return the module inside wrappers such as DataParallel, and the prefix of its names."""
    inner = {"DataParallel": "module", "DistributedDataParallel": "module"}
    inner["OptimizedModule"] = "_orig_mod"
    prefix = ""
    while module.what.module.startswith("torch.") and module.what.attribute in inner:
        name = inner.pop(module.what.attribute)  # each wrapper once: a file may hold a ring of them
        child = children(module).get(name)
        if child is None:
            break
        module = child
        prefix += f"{name}."
    return module, prefix


def children(module: Instance) -> dict[str, Instance]:
    """Return the modules that a module holds itself, by name."""
    held = mapping(module.state["_modules"]) or {}
    named = ((name, child) for name, child in held.items() if isinstance(name, str))
    return {name: child for name, child in named if is_module(child)}


def parameters_of(module: Instance) -> dict[str, Instance]:
    """Return the parameters that a module holds itself, by name."""
    table = mapping(module.state.get("_parameters")) or {}
    return {name: value for name, value in table.items() if tensor_parts(value) is not None}


def _own(module: Instance, key: str) -> Iterator[tuple[int, Parts]]:
    """Yield the tensors that a module holds itself, with what tells one object from another."""
    for value in (mapping(module.state.get(key)) or {}).values():
        tensor = tensor_parts(value)
        if tensor is not None:
            yield id(value), tensor


def _walk(model: Instance) -> Iterator[TreeRow]:
    first: dict[int, str] = {}
    totals: dict[int, tuple[dict[int, Parts], dict[int, Parts]]] = {}
    stack = [("", model, 0)]
    _sum_up(model, totals)
    while stack:
        path, module, depth = stack.pop()
        if depth > DEPTH:
            raise UnreadableError("its modules are nested too deep")
        known = first.setdefault(id(module), path)
        parameters, buffers = totals[id(module)]
        yield TreeRow(
            path=path,
            class_name=str(module.what),
            params=sum(t.numel for t in parameters.values()),
            nbytes=sum(t.nbytes for t in chain(parameters.values(), buffers.values())),
            alias_of="" if known == path else known,
        )
        below = [
            (f"{path}.{name}" if path else name, child, depth + 1)
            for name, child in children(module).items()
        ]
        stack += reversed(below)


def _sum_up(model: Instance, totals: dict[int, tuple[dict[int, Parts], dict[int, Parts]]]) -> None:
    """Note the parameters and buffers of every module, those below it included, each once."""
    stack: list[tuple[Instance, bool]] = [(model, False)]
    entered: set[int] = set()
    while stack:
        module, done = stack.pop()
        key = id(module)
        if done:
            parameters, buffers = dict(_own(module, "_parameters")), dict(_own(module, "_buffers"))
            for child in children(module).values():
                if id(child) not in totals:
                    raise UnreadableError("a module of it contains itself")
                parameters |= totals[id(child)][0]
                buffers |= totals[id(child)][1]
            totals[key] = (parameters, buffers)
        elif key not in entered:
            entered.add(key)
            stack.append((module, True))
            stack += [(child, False) for child in children(module).values()]


def _others(found: list[ModelPlace]) -> tuple[str, ...]:
    if len(found) < 2:
        return ()
    others = ", ".join(".".join(place.keys) for place in found[1:])
    shown = ".".join(found[0].keys)
    return (f"shown is {shown!r}; the file also holds the model under {others}",)

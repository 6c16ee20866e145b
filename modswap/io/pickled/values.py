"""Recognise dictionaries, tensors and modules among the values of a pickle read as data."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from modswap.io.pickled.data import Instance, Name, Storage
from modswap.io.recognise.implied_tree import elements

# the call that makes a module that has others put in beside it, of the class in its argument
BLANK = Name("modswap.nn.inserted_site", "blank")
INSERTION = Name("modswap.nn.insertion", "Insertion")
_DICTIONARIES = ("collections.OrderedDict", "collections.defaultdict")
_REBUILDS = ("torch._utils._rebuild_", "torch._tensor._rebuild_from_type_v2")
DTYPE_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1, "complex128": 16,
    "complex64": 8, "complex32": 4,
}  # fmt: skip
# dtypes of whole numbers, as torch and the classes of its storages call them
_WHOLE = frozenset(
    {
        *("bool", "byte", "char", "short", "int", "long"),
        *("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
    }
)


def takes_gradients(dtype: str) -> bool:
    """Return whether a dtype is of real or complex numbers, not of whole ones."""
    return dtype.lower() not in _WHOLE


def mapping(value: Any) -> Mapping[Any, Any] | None:
    """Return the entries of a dictionary, ordered or with defaults; None for other values."""
    if isinstance(value, (dict, Mapping)):  # the first is quicker to check
        return value
    if isinstance(value, Instance) and str(value.what) in _DICTIONARIES:
        try:
            return dict(value.items)
        except TypeError:
            return None  # a list cannot be a key
    return None


def class_of(module: Instance) -> Name:
    """Return the class of a module; of one that has others put in beside it, its own class."""
    if module.what == BLANK and module.args and isinstance(module.args[0], Name):
        return module.args[0]
    return module.what


class TensorParts(NamedTuple):
    """The size and the storage of a tensor."""

    numel: int
    itemsize: int
    stored: Storage
    offset: Any  # of its first element in the storage
    dtype: str  # as the storage's class names it, or torch

    @property
    def takes_gradients(self) -> bool:
        """Return whether its dtype does, as those of parameters do."""
        return takes_gradients(self.dtype)

    @property
    def nbytes(self) -> int:
        """Return the bytes of its elements."""
        return self.numel * self.itemsize


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor or a parameter of any kind."""
    called = isinstance(value, Instance) and value.how == "called"
    return called and str(value.what).startswith(_REBUILDS)


def tensor_parts(value: Any) -> TensorParts | None:
    """Return the size and the storage of a tensor; None for other values."""
    if not isinstance(value, Instance) or value.how != "called":
        return None
    match str(value.what).removeprefix("torch._utils."), value.args:
        case "_rebuild_parameter" | "_rebuild_parameter_with_state", (inner, *_):
            return tensor_parts(inner)
        case "_rebuild_tensor_v3", (Storage() as stored, start, size, _, _, _, Name() as dtype, *_):
            kind = dtype.attribute
            return _sized(size, DTYPE_BYTES.get(kind, 1), stored, start, kind)
        case (
            "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_qtensor",
            (Storage() as stored, start, size, *_),
        ):
            return _sized(size, stored.itemsize, stored, start, stored.dtype)
        case "torch._tensor._rebuild_from_type_v2", (Name() as make, _, tuple() as args, *_):
            return tensor_parts(Instance("called", make, args))
    return None


def _sized(
    size: Any, itemsize: int, stored: Storage, offset: Any, dtype: str
) -> TensorParts | None:
    if isinstance(size, Instance) and str(size.what) == "torch.Size" and size.args:
        size = tuple(size.args[0]) if isinstance(size.args[0], (list, tuple)) else None
    numel = elements(size) if isinstance(size, tuple) else None
    return None if numel is None else TensorParts(numel, itemsize, stored, offset, dtype)


def own_call(value: Any) -> Instance | None:
    """Return the call that gives a tensor its storage and size, inside those that wrap it."""
    match value:
        case Instance(args=(Storage(), *_)):
            return value
        case Instance(args=(Instance() as inner, *_)):
            return own_call(inner)
        case Instance(args=(Name(), _, tuple() as args, *_)):
            return own_call(Instance("called", value.args[0], args))
    return None


def is_weights(value: Any) -> bool:
    """Return whether a value is a flat state dict: named tensors and, at most, extra states."""
    entries = mapping(value)
    if not entries or not all(isinstance(name, str) for name in entries):
        return False
    tensors = [name for name, item in entries.items() if tensor_parts(item) is not None]
    others = entries.keys() - set(tensors)
    return bool(tensors) and all(name.endswith("_extra_state") for name in others)


def is_module(value: Any) -> bool:
    """Return whether a value is a module: an object with a module's tables."""
    state = value.state if isinstance(value, Instance) else None
    return isinstance(state, dict) and {"_modules", "_parameters"} <= state.keys()


def holds_modules(values: Iterable[Any]) -> bool:
    """Return whether any of the objects of a file is a module."""
    return any(map(is_module, values))


def table(module: Instance, name: str) -> Mapping[Any, Any]:
    """Return a table of a module, such as `_buffers`; empty where the module has none."""
    return mapping(module.state.get(name)) or {}


def children(module: Instance) -> dict[str, Instance]:
    """Return the direct submodules of a module, by name."""
    named = ((name, child) for name, child in table(module, "_modules").items())
    return {name: child for name, child in named if isinstance(name, str) and is_module(child)}


def parameters_of(module: Instance) -> dict[str, Instance]:
    """Return the parameters that a module holds itself, by name."""
    held = table(module, "_parameters").items()
    return {name: value for name, value in held if tensor_parts(value) is not None}


def without_wrappers(module: Instance) -> tuple[Instance, str]:
    """Return the module inside wrappers such as DataParallel, and the prefix of its names."""
    inner = {"DataParallel": "module", "DistributedDataParallel": "module"}
    inner["OptimizedModule"] = "_orig_mod"
    prefix = ""
    while (own := class_of(module)).module.startswith("torch.") and own.attribute in inner:
        name = inner.pop(own.attribute)  # each wrapper once: a file may hold a ring of them
        child = children(module).get(name)
        if child is None:
            break
        module = child
        prefix += f"{name}."
    return module, prefix

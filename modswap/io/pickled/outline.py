"""Read the module tree of a file of `torch.save` from its pickle, as data."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modswap.core.budget import names_flaw
from modswap.core.errors import CheckpointError
from modswap.core.seen.tree import (
    BareParameter,
    Tree,
    TreeRow,
    Wanted,
    dtypes_below,
    sums_below,
)
from modswap.io.pickled.costs import refuse_costs
from modswap.io.pickled.data import (
    MAX_PICKLE_BYTES,
    CostlyError,
    Instance,
    Name,
    UnreadableError,
    read_pickle,
    read_pickles,
)
from modswap.io.pickled.modules import GETATTR, RUN_ONCE, is_unshaped, lazy_hooks, unshaped
from modswap.io.pickled.names import is_name, is_plain_data, runs_code
from modswap.io.pickled.values import (
    TensorParts,
    children,
    class_of,
    holds_modules,
    is_module,
    is_weights,
    mapping,
    parameters_of,
    table,
    tensor_parts,
    without_wrappers,
)
from modswap.io.pickled.walk import everything, module_nodes
from modswap.io.recognise.dtypes import dtype_of
from modswap.io.recognise.implied_tree import WEIGHTS, TensorSize, implied_rows
from modswap.io.recognise.look import Look
from modswap.io.recognise.model_places import KEYS, common_prefix

# names that every safe reader knows, or that build data of torch
_KNOWN = re.compile(
    r"(torch\.nn|builtins|collections|modswap\.nn|modswap\.ops\.demo)\..*|torch\._utils\._rebuild_.*|"
    r"torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout|_codecs\.encode|"
    r"torch\.((cuda|sparse|cuda\.sparse)\.\w+(Tensor|Storage)|storage\.\w+Storage)"
)
_OF_LAZY_LAYERS = (GETATTR, "torch.utils.hooks.RemovableHandle")

_TENSORS = ("_parameters", "_buffers")  # tables of a module
_LEGACY_PICKLES = 5  # magic number, version, system, payload, keys of the storages
_LEGACY_PAYLOAD = 3


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model, or its weights, in a payload."""

    keys: tuple[str, ...]  # from the payload down to it
    value: Any


def torch_outline(look: Look) -> Tree | None:
    """Return the module tree of a file of `torch.save`; None if only torch can read the file.

    Raises:
        CheckpointError: If it is damaged, or loading it would cost more than the file accounts for.
        UnsafeError: If a call of it is one that no sound file makes.
    """
    try:
        payload, names = affordable_payload(look)
        found = list(places(payload))
        if not found:
            return None
        rows, notes = rows_of(found[0].value)
    except CostlyError as error:
        raise costly(look, error) from None
    except (UnreadableError, RecursionError):
        return None  # the loader of torch reports the mistake
    wanted = tuple(_judged(name) for name in _asked(payload, names))
    kind = "torch" if look.names else "torch (legacy)"
    tree = Tree(str(look.file), kind, rows, notes=(*notes, *_others(found)), wanted=wanted)
    return _with_waiting(tree, payload) if any(map(is_unshaped, names)) else tree


def _with_waiting(tree: Tree, payload: Any) -> Tree:
    """Return the tree with a note on layers that never got a shape, and what has to be done."""
    made = [value for value in everything(payload) if isinstance(value, Instance)]
    what = unshaped(made)
    bound = {id(one) for one in made if str(one.what) == GETATTR}
    own = _OF_LAZY_LAYERS if what and bound <= lazy_hooks(made) else ()
    wanted = tuple(one for one in tree.wanted if one.name not in own)
    notes = (*tree.notes, f"{what}: {RUN_ONCE}") if what else tree.notes
    return replace(tree, notes=notes, wanted=wanted)


def costly(look: Look, error: CostlyError) -> CheckpointError:
    """Return the error for a file whose pickle asks for too much."""
    fix = "do not load it unless it is your own; for a file of your own making there is --trust"
    return look.error(f"its pickle cannot be read safely: {error}", fix)


def affordable_payload(look: Look) -> tuple[Any, tuple[Name, ...]]:
    """Return the payload of a torch file as data, and the names in its pickle.

    Raises:
        UnreadableError: If it cannot be read as data, or would cost too much to load.
        UnsafeError: If a call of it is one that no sound file makes.
        CheckpointError: If it is damaged, or its calls together would cost too much.
    """
    values, names = values_of(look)
    refuse_costs(values, look)
    return _payload(values), names


def values_of(look: Look) -> tuple[list[Any], tuple[Name, ...]]:
    """Return the values of all pickles in a torch file as data, and the names in them.

    Raises:
        UnreadableError: If they cannot be read as data.
        CheckpointError: If it is damaged.
    """
    if look.names:
        payload, names = read_pickle(_pickle_of(look))
        return [payload], names
    with look.file.open("rb") as stream:
        return read_pickles(stream, _LEGACY_PICKLES)


def _payload(values: list[Any]) -> Any:
    return values[_LEGACY_PAYLOAD] if len(values) > 1 else values[0]


def _pickle_of(look: Look) -> bytes:
    name = next(name for name in look.names if name.partition("/")[2] == "data.pkl")
    with zipfile.ZipFile(look.file) as archive:
        entry = archive.getinfo(name)
        if entry.file_size > MAX_PICKLE_BYTES:
            raise CostlyError(f"it has {entry.file_size:,} bytes, over {MAX_PICKLE_BYTES:,}")
        if not entry.CRC:  # torch has an option to write none
            entry.CRC = None  # type: ignore[assignment] # zipfile then compares none
        try:
            return archive.read(entry)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise look.error(f"it is damaged: {error}") from None


def _asked(payload: Any, names: Sequence[Name]) -> list[Name]:
    """Return the names that the user has to allow; plain data beside weights is read as data."""
    asked = [name for name in names if not _known(name)]
    plain = [name for name in asked if is_plain_data(str(name))]
    if not plain or holds_modules(everything(payload)):
        return asked
    return [name for name in asked if name not in plain]


def _known(name: Name) -> bool:
    dotted = str(name)
    data = name.module == "torch" or _KNOWN.fullmatch(dotted) is not None
    return data and not runs_code(dotted)


def _judged(name: Name) -> Wanted:
    dotted = str(name)
    if runs_code(dotted) or not is_name(dotted):
        return Wanted(dotted, "can run any code", "")
    if name.module == "__main__":
        return Wanted(dotted, "moved", f"--alias {dotted}=yourmodule.{name.attribute}")
    return Wanted(dotted, "not allowed by itself", f"--allow {dotted}")


def places(payload: Any) -> Iterator[FoundModel]:
    """Yield the models and weights of a payload, the primary one first."""
    if _is_model(payload):
        yield FoundModel((), payload)
        return
    top = mapping(payload) or {}
    for key in KEYS:
        if _is_model(top.get(key)):
            yield FoundModel((key,), top[key])
        else:
            inner = mapping(top.get(key)) or {}
            yield from (FoundModel((key, k), inner[k]) for k in KEYS if _is_model(inner.get(k)))


def _is_model(value: Any) -> bool:
    return is_module(value) or is_weights(value)


def rows_of(value: Any) -> tuple[tuple[TreeRow, ...], tuple[str, ...]]:
    """Return the rows of a model's tree, and notes about them.

    Raises:
        CostlyError: If modules are nested too deep, have too many paths, or names are too long.
    """
    if is_module(value):
        return tuple(_module_rows(without_wrappers(value)[0])), ()
    sizes = weight_sizes(value)
    prefix = common_prefix(list(sizes))
    return implied_rows({name.removeprefix(prefix): size for name, size in sizes.items()}), (
        WEIGHTS,
    )


def weight_sizes(value: Any) -> dict[str, TensorSize]:
    """Return the size of every tensor of a state dict; names of one tensor share its place.

    Raises:
        CostlyError: If names are too long.
    """
    if flaw := names_flaw(map(str, mapping(value) or ())):
        raise CostlyError(flaw)
    named = {name: tensor_parts(item) for name, item in (mapping(value) or {}).items()}
    return {name: _size(t) for name, t in named.items() if t is not None}


def _size(tensor: TensorParts) -> TensorSize:
    stored = tensor.stored
    place = (stored.home, stored.key, f"{tensor.offset}", tensor.numel)
    dtype = dtype_of(tensor.dtype)
    return TensorSize(tensor.numel, tensor.nbytes, place, tensor.takes_gradients, dtype)


def _module_rows(model: Instance) -> Iterator[TreeRow]:
    nodes = tuple(module_nodes(model))
    params, nbytes = _sums(nodes)
    dtypes = dtypes_below([parent for *_, parent in nodes], [_dtypes(one) for _, one, _ in nodes])
    first: dict[int, str] = {}
    tensors: dict[int, str] = {}
    for number, (path, module, _) in enumerate(nodes):
        known = first.setdefault(id(module), path)
        alias = "" if known == path else known
        yield TreeRow(
            path=path,
            class_name=str(class_of(module)),
            params=params[number],
            nbytes=nbytes[number],
            alias_of=alias,
            ties=() if alias else tuple(_ties(path, module, tensors)),
            bare=() if alias else tuple(_bare(module)),
            dtype=dtypes[number],
        )


def _dtypes(module: Instance) -> set[str]:
    """Return the dtypes of a module's own floating tensors."""
    held = (tensor_parts(value) for name in _TENSORS for value in table(module, name).values())
    return {dtype_of(each.dtype) for each in held if each is not None and each.takes_gradients}


def _bare(module: Instance) -> Iterator[BareParameter]:
    """Yield a module's own parameters, if it has modules in it."""
    held = parameters_of(module) if children(module) else {}
    named = ((f"{name}", tensor_parts(value)) for name, value in held.items())
    yield from (BareParameter(name, t.numel, t.nbytes) for name, t in named if t is not None)


def _sums(nodes: Sequence[tuple[str, Instance, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the elements of parameters, and the bytes of all tensors, at each path of a model."""
    parents = [parent for *_, parent in nodes]
    tables = [[_own(module, name) for name in _TENSORS] for _, module, _ in nodes]
    params = ([(key, each.numel) for key, each in own.items()] for own, _ in tables)
    nbytes = (
        [((kind, key), each.nbytes) for kind, own in enumerate(held) for key, each in own.items()]
        for held in tables
    )
    return sums_below(parents, params), sums_below(parents, nbytes)


def _ties(path: str, module: Instance, tensors: dict[int, str]) -> Iterator[tuple[str, str]]:
    """Yield a module's own tensors that were met before, with the name that they had there."""
    for name, value in (pair for held in _TENSORS for pair in table(module, held).items()):
        full = f"{path}.{name}" if path else f"{name}"
        if tensor_parts(value) is not None and tensors.setdefault(id(value), full) != full:
            yield f"{name}", tensors[id(value)]


def _own(module: Instance, name: str) -> dict[int, TensorParts]:
    """Return the tensors in a table of a module, by the ids of their objects."""
    parts = {id(value): tensor_parts(value) for value in table(module, name).values()}
    return {key: tensor for key, tensor in parts.items() if tensor is not None}


def _others(found: list[FoundModel]) -> tuple[str, ...]:
    if len(found) < 2:
        return ()
    others = ", ".join(".".join(place.keys) for place in found[1:])
    shown = ".".join(found[0].keys)
    return (f"shown is {shown!r}; the file also holds the model under {others}",)

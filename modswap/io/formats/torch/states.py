"""Refuse attributes in a pickle that would take the place of code, or be called as hooks.

An allow-list says which classes may be built, and not what their objects hold. Python finds an
attribute of a module before a method of its class, and torch calls each hook in a module's tables.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache, partialmethod, singledispatchmethod
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modswap.core.asked.job import Policy
from modswap.core.errors import CheckpointError, UnsafeError
from modswap.core.words.printable import SHOWN_CHARACTERS, shown
from modswap.io.pickled.data import Instance, Name
from modswap.io.pickled.modules import RUN_ONCE, is_lazy_hook, unshaped, unwrapped_hook
from modswap.io.pickled.values import BLANK, class_of

# names of methods that host frameworks give to an attribute: Ultralytics, the name of the class
_HOST_TEXTS = frozenset({"type"})
_PLAIN = (bool, int, float, str, type(None))
_TABLES = ("_modules", "_parameters", "_buffers")
_HOOKS = frozenset(name for name in vars(nn.Module()) if "_hooks" in name)
_HOOK_OF_TORCH = re.compile(r"torch\.nn\.utils\.(weight_norm|spectral_norm|prune)\.\w+")
_REBUILDS = ("torch._utils._rebuild_", "torch._tensor._rebuild_")
# places of the hooks among the arguments of a tensor
_TENSOR_HOOKS: Mapping[str, int] = {
    "_rebuild_tensor_v2": 5, "_rebuild_tensor_v3": 5, "_rebuild_qtensor": 6,
    "_rebuild_parameter": 2, "_rebuild_parameter_with_state": 2,
}  # fmt: skip
# dictionaries that torch's unpickler builds by itself; of its other classes it sets no attributes
_DICTIONARIES: Mapping[str, type] = {
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": Counter,
}
_BARE = re.compile(
    r"torch\.(Size|device|nn\.parameter\.\w+|(\w+\.)*\w*(Tensor|Storage))|builtins\.\w+|_codecs\.\w+"
)
_OF_TENSORS = frozenset(dir(torch.Tensor))
_UNCALLED = (classmethod, partialmethod, singledispatchmethod)  # methods that are no callables
_NOTHING = object()
_FIX = "do not load it unless it is your own; for a file of your own making there is --trust"


@dataclass(frozen=True, slots=True)
class Known:
    """The classes and functions that a file may build or call, by their names in it."""

    objects: Mapping[str, Any]
    named: Set[str] = frozenset()  # those that the user allowed by their full names


def named_in(policy: Policy) -> frozenset[str]:
    """Return the names that the user allows in full, and not by their package."""
    return frozenset((*policy.allow, *(old for old, _ in policy.aliases)))


def refuse_planted(made: Sequence[Instance], known: Known, file: Path) -> None:
    """Refuse objects with attributes that shadow a method of their class, or with hooks.

    The state of a module is a plain dictionary in each file of torch: any other form, which an
    unpickler may take for attributes all the same, is refused as well.

    Raises:
        UnsafeError: If there is such an object; the first is named.
        CheckpointError: If a layer never got a shape, and so waits for its first run by hooks.
    """
    for one in made:
        for what in _wrong(one, known):
            raise UnsafeError(what, str(file), _FIX)
    if what := unshaped(made):
        raise CheckpointError(what, str(file), RUN_ONCE)


def _wrong(made: Instance, known: Known) -> Iterator[str]:
    """Yield in words what is wrong with the state of an object."""
    name, state = str(made.what), made.state
    cls = _class_of(made, known)
    if name.startswith(_REBUILDS):
        yield from _wrong_tensor(made, name)
    elif state is None:
        return
    elif name in _DICTIONARIES:
        yield from _wrong_attributes(made, state, _DICTIONARIES[name], known)
    elif _BARE.fullmatch(name) or (cls is None and name.startswith("torch._")):
        yield f"it sets attributes of a {name}, which has none"
    elif isinstance(cls, type):
        yield from _wrong_object(made, state, cls, known)
    elif any("_modules" in held for held in _dictionaries(state)):
        # a class that is not here, or a function that makes an object
        yield from _wrong_attributes(made, state, nn.Module, known)


def _class_of(made: Instance, known: Known) -> Any:
    """Return the class of an object, if it is known; of modules beside which others are as well."""
    cls = known.objects.get(str(class_of(made)))
    beside = made.what == BLANK and isinstance(cls, type) and issubclass(cls, nn.Module)
    return import_module(BLANK.module).class_of_site(cls) if beside else cls


def _wrong_object(made: Instance, state: Any, cls: type, known: Known) -> Iterator[str]:
    """Yield what is wrong with the state of an object of a known class."""
    states: Iterable[Any] = (state,)
    if not issubclass(cls, nn.Module):
        if hasattr(cls, "__setstate__"):  # it takes what it takes; dictionaries are attributes
            states = _dictionaries(state)
        elif type(state) is tuple and len(state) == 2:  # attributes, and those with a slot
            states = (part for part in state if part is not None)
    for held in states:
        yield from _wrong_attributes(made, held, cls, known)


def _dictionaries(state: Any) -> Iterator[dict[Any, Any]]:
    """Yield a state that is a dictionary, or the dictionaries in one that is a tuple."""
    parts = state if type(state) is tuple else (state,)
    yield from (part for part in parts if type(part) is dict)


def _wrong_attributes(made: Instance, state: Any, cls: type, known: Known) -> Iterator[str]:
    """Yield what is wrong with attributes of an object."""
    if type(state) is dict:
        yield from _wrong_items(made, state, cls, known)
    else:
        yield f"the attributes of a {made.what} are {_kind(state)}, expected a plain dictionary"


def _wrong_items(made: Instance, state: dict[Any, Any], cls: type, known: Known) -> Iterator[str]:
    held = _attributes(cls)
    for key, value in state.items():
        if type(key) is not str:
            yield f"an attribute of a {made.what} has no text as its name: {shown(key)}"
        elif _shadows(key, value, held, known):
            yield f"it puts an attribute {shown(key)} into a {made.what}, in place of the method"
        elif key in _HOOKS:
            yield from _wrong_hooks(made, key, value, known)
        elif key in _TABLES:
            yield from _wrong_table(made, key, value, held)


def _kind(value: Any) -> str:
    name = str(value.what) if isinstance(value, Instance) else type(value).__name__
    return f"a {name[:SHOWN_CHARACTERS]}"


@lru_cache(maxsize=1024)
def _attributes(cls: type) -> Mapping[str, Any]:
    """Return the attributes of a class and its bases, without running code of theirs."""
    held = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    if not issubclass(cls, nn.Module):  # the class holds the default of a field, which may be code
        held = {name: held[name] for name in held.keys() - held.get("__dataclass_fields__", {})}
    return held


def _shadows(key: str, value: Any, of_class: Mapping[str, Any], known: Known) -> bool:
    """Return whether an attribute takes the place of code of its class."""
    plain = isinstance(value, _PLAIN)
    held = of_class.get(key, _NOTHING)
    if held is None:  # a place for code that comes later; torch's own has no other use
        return not plain and (key in vars(nn.Module) or _is_code(value, known))
    if _is_method(held):
        return not (plain and key in _HOST_TEXTS)
    return key.startswith("__") and key.endswith("__") and not plain


def _is_method(held: Any) -> bool:
    return held is not _NOTHING and (callable(held) or isinstance(held, _UNCALLED))


def _is_code(value: Any, known: Known) -> bool:
    """Return whether a value is a function, a class or an object that can be called.

    An object of an unknown class is taken for one.
    """
    if not isinstance(value, Instance):
        return isinstance(value, Name)
    name = str(value.what)
    cls = known.objects.get(name, _DICTIONARIES.get(name))
    if isinstance(cls, type):
        return "__call__" in _attributes(cls)
    return not (name.startswith(_REBUILDS) or _BARE.fullmatch(name))


def _wrong_table(
    made: Instance, key: str, table: Any, of_class: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the entries of a module's table that bear the name of a method."""
    for name, _ in _pairs(table):
        if isinstance(name, str) and _is_method(of_class.get(name, _NOTHING)):
            what = f"it puts {shown(name)} into the table {key!r} of a {made.what}"
            yield f"{what}, in place of the method"


def _wrong_hooks(made: Instance, key: str, table: Any, known: Known) -> Iterator[str]:
    """Yield the hooks in a table that are neither torch's own nor allowed by their full name."""
    if not isinstance(table, (dict, *_PLAIN)) and not _is_ordered(table):
        yield f"the table {key!r} of a {made.what} is {_kind(table)}, expected a dictionary"
    for _, hook in _pairs(table):
        if not isinstance(hook, _PLAIN) and not _is_sound_hook(hook, made, key, known):
            what = _kind(hook) if isinstance(hook, Instance) else shown(str(hook))
            yield f"the table {key!r} of a {made.what} has a hook that would be called: {what}"


def _is_sound_hook(hook: Any, made: Instance, hooks: str, known: Known) -> bool:
    """Return whether a hook is torch's own, or allowed by its full name."""
    hook = unwrapped_hook(hook)
    if isinstance(hook, Name):
        return str(hook) in known.named
    if is_lazy_hook(hook, made, hooks):
        return True
    name = str(hook.what) if isinstance(hook, Instance) and hook.how == "new" else ""
    return bool(_HOOK_OF_TORCH.fullmatch(name)) or name in known.named


def _is_ordered(value: Any) -> bool:
    return isinstance(value, Instance) and str(value.what) == "collections.OrderedDict"


def _pairs(table: Any) -> Iterator[Sequence[Any]]:
    """Yield the keys and values of a dictionary, also of those that it would be made of."""
    if isinstance(table, dict):
        yield from table.items()
    elif isinstance(table, Instance):
        yield from table.items
        for arg in table.args:
            inside = _pairs(arg) if isinstance(arg, dict) else arg
            yield from (pair for pair in _listed(inside) if len(_listed(pair)) == 2)


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, Iterator):
        return list(value)
    return value if isinstance(value, (list, tuple)) else ()


def _wrong_tensor(made: Instance, name: str) -> Iterator[str]:
    """Yield what is wrong with the attributes and the hooks of a tensor."""
    if made.state is not None:
        yield f"it sets attributes of a tensor through {name}, as no torch since 0.4 does"
    args = made.args
    while name.endswith("._rebuild_from_type_v2") and len(args) > 3:
        yield from _wrong_tensor_state(args[3])
        name, args = str(args[0]), args[2] if isinstance(args[2], tuple) else ()
    if name.endswith("._rebuild_parameter_with_state") and args:
        yield from _wrong_tensor_state(args[-1])
    place = _TENSOR_HOOKS.get(name.rpartition(".")[2], len(args))
    if not all(map(_is_empty, args[place : place + 1])):
        yield "a tensor of it has hooks, which would be called"


def _wrong_tensor_state(state: Any) -> Iterator[str]:
    for held in state if type(state) is tuple else (state,):
        if type(held) is dict:
            planted = sorted(_OF_TENSORS & {key for key in held if isinstance(key, str)})
            if planted:
                yield f"it puts an attribute {planted[0]!r} into a tensor, in place of its own"
        elif held is not None:
            yield f"the attributes of a tensor are {_kind(held)}, expected a plain dictionary"


def _is_empty(hooks: Any) -> bool:
    """Return whether a value is a dictionary of no hooks, or None."""
    bare = isinstance(hooks, Instance) and (hooks.state, [*hooks.items]) == (None, [])
    return hooks in (None, {}) or (bare and _is_ordered(hooks) and not any(hooks.args))

"""Empty classes with the memory layout of a given class, for objects that have only attributes.

While a pickle is read, its objects are of such a class, so that no method of their own runs;
afterwards each gets its own class.
"""

import dataclasses
import pickle
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_of_class = vars(type)
namespace = _of_class["__dict__"].__get__  # of a class, past what its metaclass may override
bases_of = _of_class["__mro__"].__get__
home_of = _of_class["__module__"].__get__
_PYTHON = frozenset(sys.stdlib_module_names) | {"torch", "typing_extensions"}
_KEPT = ("__slots__", "__orig_bases__")  # the second for `Generic`
_HEAP_TYPE = 1 << 9  # a flag of classes that were made by a class statement


class StateError(pickle.UnpicklingError):
    """A pickle gives an object a state that its attributes alone cannot hold."""


def shell_of(cls: type) -> type | None:
    """Return an empty class with the layout of another, or None if there can be none.

    Its instances take a state as pickles hold it, and cannot be keys of dictionaries.
    """
    methods = {"__setstate__": _state_setter(cls), "__hash__": None}
    try:
        shell = _copied(cls, methods)
        put_into_class(shell(), cls)
    except TypeError:
        return None
    return shell


def put_into_class(made: Any, cls: type) -> None:
    """Give an instance of a shell its own class."""
    object.__setattr__(made, "__class__", cls)


def _copied(cls: type, methods: Mapping[str, Any]) -> type:
    if cls in (object, types.SimpleNamespace) or _is_empty(cls):
        return cls
    if not _of_class["__flags__"].__get__(cls) & _HEAP_TYPE:
        raise TypeError(cls)  # written in C: a layout of its own
    base = _copied(_of_class["__base__"].__get__(cls), {})
    kept = {key: namespace(cls)[key] for key in _KEPT if key in namespace(cls)}
    if not isinstance(kept.get("__slots__", ()), (str, tuple, list, dict)):
        raise TypeError(cls)
    return type(cls.__name__, (base,), {**kept, **methods})


def _is_empty(cls: type) -> bool:
    """Return whether a class of Python adds nothing to the layout, as `Generic` and `ABC`."""
    same = _of_class["__basicsize__"].__get__(cls) == object.__basicsize__
    return same and of_python(home_of(cls))


def of_python(module: object) -> bool:
    """Return whether a module is of Python itself or of torch."""
    return str(module).partition(".")[0] in _PYTHON


def _state_setter(cls: type) -> Any:
    # OmegaConf leaves out an attribute that it caches in
    settings = any(home_of(base).startswith("omegaconf.") for base in bases_of(cls))

    def set_state(made: Any, state: Any) -> None:
        if settings:
            _set(made, "_flags_cache", None)
        for key, value in _attributes(cls, state):
            if type(key) is not str:
                raise StateError(f"an attribute named by a {type(key).__name__}")
            _set(made, key, value)

    return set_state


def _attributes(cls: type, state: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the attributes in the state of a pickled object."""
    if type(state) is list and dataclasses.is_dataclass(cls):  # of a frozen one with slots
        yield from zip((field.name for field in dataclasses.fields(cls)), state, strict=False)
        return
    parts: Sequence[Any] = state if type(state) is tuple and len(state) == 2 else (state,)
    for part in parts:
        if part is not None and type(part) is not dict:
            raise StateError(f"a {type(part).__name__} as its state")
        yield from (part or {}).items()


def _set(made: Any, key: str, value: Any) -> None:
    held = next((namespace(base)[key] for base in type(made).__mro__ if key in namespace(base)), 0)
    if isinstance(held, types.MemberDescriptorType):
        held.__set__(made, value)
    elif hasattr(made, "__dict__"):
        made.__dict__[key] = value
    else:
        raise StateError("an attribute that its class has no place for")

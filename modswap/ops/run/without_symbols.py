"""Keep torch's symbolic shapes, and sympy, out of a block in which every size is a number."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

_SHAPES = "torch.fx.experimental.symbolic_shapes"
_FUNCTIONS = "torch.utils._sympy.functions"
_ALGEBRA = "sympy"
_RAISED = "GuardOnDataDependentSymNode"


class _Unloaded(ModuleType):
    """A substitute for a module, until a block uses what only the module itself has.

    Torch asks these modules about each size, and imports them for that: together they take a third
    of the time that torch's own import takes. Where no size is a symbol the answers are known.
    """

    def __init__(self, name: str, known: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self._known = known

    def __getattr__(self, name: str) -> Any:
        # `__path__` is asked of a package before a part of it is imported
        if name.startswith("__") and (name != "__path__" or self.__name__ != _ALGEBRA):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self and name in self._known:
            return self._known[name]
        return getattr(self.load(), name)

    def load(self) -> ModuleType:
        """Return the module itself, imported."""
        self.leave()
        return import_module(self.__name__)

    def leave(self) -> None:
        """Let the next import find the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


def _answer(module: str, name: str, known: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of torch that answers for numbers; for symbols torch's own does."""

    def answered(*args: Any, **named: Any) -> Any:
        found = None if named else known(*args)
        if found is None:
            return getattr(_real(module), name)(*args, **named)
        return found

    return answered


def _real(name: str) -> ModuleType:
    held = sys.modules.get(name)
    return held.load() if isinstance(held, _Unloaded) else import_module(name)


def _itself(answer: Any) -> bool | None:
    return answer if type(answer) is bool else None


def _numbers(values: Any) -> bool:
    if isinstance(values, tuple | list):
        return all(map(_numbers, values))
    return type(values) is int


def _equal(one: Any, other: Any) -> bool | None:
    if not (_numbers(one) and _numbers(other)) or (type(one) is int) != (type(other) is int):
        return None
    return one == other if type(one) is int else tuple(one) == tuple(other)


def _all(*answers: Any) -> bool | None:
    return all(answers) if all(type(one) is bool for one in answers) else None


def _any(*answers: Any) -> bool | None:
    return any(answers) if all(type(one) is bool for one in answers) else None


def _is_nested(size: Any) -> bool | None:
    return False if type(size) in {int, float} else None


def _has_hint(size: Any) -> bool | None:
    return True if type(size) in {int, float, bool} else None


def _whole(number: Any) -> int | None:
    return number if type(number) is int else None


def _symbols(value: Any) -> tuple[()] | None:
    """Return that a value has no symbols; None where only torch can say it."""
    if isinstance(value, torch.Tensor):
        strided = value.layout is torch.strided
        value = [*value.shape, *value.stride(), value.storage_offset()] if strided else value
    if isinstance(value, tuple | list):
        return () if all(_symbols(one) == () for one in value) else None
    return () if value is None or type(value) in {int, float, bool, str} else None


def _unknown(*_: Any) -> None:
    """Leave every question to torch; the name itself is imported before any is asked."""


class _NoSymbol:
    """Stand for a class of symbols, of which there are none as long as sympy is not imported."""


class _NoGuardError(RuntimeError):
    """Stand for what symbolic shapes raise, as long as they are not imported."""


_ANSWERS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("expect_true", "guard_or_false", "guard_or_true"), _itself),
    **dict.fromkeys(("statically_known_true", "guard_size_oblivious", "guard_bool"), _itself),
    "guard_int": _whole,
    "is_nested_int": _is_nested,
    "sym_eq": _equal,
    "sym_and": _all,
    "sym_or": _any,
    **dict.fromkeys(("_iterate_exprs", "_iterate_nodes"), _symbols),
    "has_guarding_hint": _has_hint,
    # imported beside the others, and asked of symbols alone
    **dict.fromkeys(("compute_unbacked_bindings", "free_unbacked_symbols"), _unknown),
    **dict.fromkeys(("guarding_hint_or_throw", "has_free_symbols"), _unknown),
    **dict.fromkeys(("has_free_unbacked_symbols", "optimization_hint"), _unknown),
    **dict.fromkeys(("_advise_is_size", "_advise_is_bounded"), _unknown),
    **dict.fromkeys(("_constrain_range_for_size", "constrain_range"), _unknown),
}
_KNOWN: Mapping[str, Mapping[str, Any]] = {
    _SHAPES: {
        **{name: _answer(_SHAPES, name, known) for name, known in _ANSWERS.items()},
        _RAISED: _NoGuardError,
    },
    _FUNCTIONS: {"Max": _answer(_FUNCTIONS, "Max", _unknown)},
    _ALGEBRA: {"Basic": _NoSymbol},
}


class _Mender(Loader):
    """Give modules torch's own class of errors once symbolic shapes are imported.

    Modules that a block imports keep what they found then; a class in `except` has to be the one
    that is raised.
    """

    def __init__(self, holders: Sequence[ModuleType]) -> None:
        self._holders = holders
        self._loader: Any = None

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return where symbolic shapes are, to be loaded by this object; None for other modules."""
        if name != _SHAPES:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what torch's loader makes."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, which has its own loader, and mend those that were imported before it."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _mend(self._holders, module)


def _mend_later() -> None:
    held = [*sys.modules.values()]
    holders = [one for one in held if getattr(one, "__dict__", {}).get(_RAISED) is _NoGuardError]
    shapes = sys.modules.get(_SHAPES)
    if shapes is not None:
        _mend(holders, shapes)
        return
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _Mender)]
    if holders:
        sys.meta_path.insert(0, _Mender(holders))


def _mend(holders: Sequence[ModuleType], shapes: ModuleType) -> None:
    for holder in holders:
        setattr(holder, _RAISED, getattr(shapes, _RAISED))


@contextmanager
def without_symbols() -> Iterator[None]:
    """Run a block in which torch does not import its symbolic shapes only to learn of no symbol.

    Code in the block that has symbols gets the modules, and finds everything as without the block.
    """
    with ExitStack() as stack:
        stack.callback(_mend_later)  # after the substitutes have left
        for name, known in _KNOWN.items():
            if name not in sys.modules:
                substitute = sys.modules[name] = _Unloaded(name, known)
                stack.callback(substitute.leave)
        yield

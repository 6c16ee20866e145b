"""Keep torch's compiler out of a block that compiles nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from modswap.ops.run.without_symbols import without_symbols

_COMPILER = "torch._dynamo"
_MARK = "__dynamo_disable"  # on functions of torch that the compiler has to leave alone


class _Absent(ModuleType):
    """A substitute for the compiler, until a block uses the compiler itself.

    Torch imports its compiler to turn it off, at the first call of each of some functions: that
    takes seconds. A compiler that was never imported compiles nothing.
    """

    def __init__(self) -> None:
        super().__init__(_COMPILER)
        self.__spec__ = ModuleSpec(_COMPILER, None)
        self._marked: list[Any] = []
        self.config = _settings()  # tensors without data ask for them

    def disable(self, fn: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        """Return the function itself; torch keeps it as the function's mark."""
        self._marked.append(fn)
        return fn

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # a question about any module
            raise AttributeError(name)
        self.leave()
        return getattr(import_module(_COMPILER), name)

    def leave(self) -> None:
        """Let the next import find the compiler itself, which marks functions anew."""
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        for fn in self._marked:
            vars(fn).pop(_MARK, None)
        self._marked.clear()


def _settings() -> ModuleType:
    """Return the compiler's settings, which torch keeps in a file that imports little else."""
    name = f"{_COMPILER}.config"
    if name not in sys.modules:
        file = Path(torch.__file__).with_name("_dynamo") / "config.py"
        spec = spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ImportError(name)
        made = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(made)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


@contextmanager
def without_compiler() -> Iterator[None]:
    """Run a block in which torch does not import its compiler only to turn it off.

    Code in the block that uses the compiler gets it, and finds everything as without the block.
    The same holds for its symbolic shapes.
    """
    with without_symbols(), _compiler_left_out():
        yield


@contextmanager
def _compiler_left_out() -> Iterator[None]:
    absent = None if _COMPILER in sys.modules else _absent()
    if absent is None:
        yield
        return
    sys.modules[_COMPILER] = absent
    try:
        yield
    finally:
        absent.leave()


def _absent() -> _Absent | None:
    """Return a substitute for the compiler; None if torch keeps its settings in another file."""
    try:
        return _Absent()
    except (ImportError, OSError):
        return None

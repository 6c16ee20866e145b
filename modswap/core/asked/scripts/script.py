"""Make a module of a script: only the statements run that its classes and functions need."""

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from modswap.core.asked.scripts.needed import (
    WorkError,
    defined,
    defined_without_calls,
    is_future,
    needed,
    without_words,
)
from modswap.core.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Script:
    """A file of code of which only some names are used.

    Args:
        file: The file.
        names: The classes and functions that are used.
        module: The module's name in `sys.modules`.
    """

    file: str
    names: tuple[str, ...]
    module: str


class ScriptModule(ModuleType):
    """A module of a script, whose names are defined when they are first asked for.

    Imports, definitions and values that a name needs are executed; loops, calls and all other
    statements are not.
    """

    def __init__(self, script: Script, tree: ast.Module) -> None:
        """Make a module in which nothing ran yet."""
        super().__init__(script.module)
        self.__file__ = script.file
        self.__package__ = script.module.rpartition(".")[0]
        self.__tree = tree
        self.__done: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        """Define a name of the script, and return its value; an `AttributeError` if that raises."""
        if name.startswith("__") or name not in defined(self.__tree):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        try:
            self.define((name,))
        except RecipeError as error:
            raise AttributeError(str(error)) from error
        return vars(self)[name]

    def defines(self, name: str) -> bool:
        """Return whether the script defines a name, or imports it, without a call of its own."""
        return name in defined_without_calls(self.__tree)

    def __dir__(self) -> list[str]:
        """Return the names that are defined, and those that could be."""
        return sorted({*vars(self), *defined(self.__tree)})

    def define(self, names: Sequence[str], where: str = "--model") -> None:
        """Run what names need and did not run yet.

        Raises:
            RecipeError: If it raises, or is made by a loop.
        """
        file = Path(str(self.__file__))
        try:
            body = self._left([name for name in names if name not in vars(self)])
            code = compile(ast.Module(body, []), str(file), "exec")
        except WorkError as error:
            raise RecipeError(str(error), file.name, _move(names)) from error
        except (SyntaxError, ValueError) as error:
            raise _unreadable(file, error, where) from error
        self.__done.update(map(id, body))
        try:
            with importable(str(file.parent)):
                exec(code, vars(self))  # noqa: S102 - the user's own definitions, as an import runs them
        except (Exception, SystemExit) as error:
            self.__done.difference_update(map(id, body))
            text = " ".join(str(error).split())[:200]
            what = f"the definitions that {names[0]} needs raised {type(error).__name__}: {text}"
            raise RecipeError(what, file.name, _move(names)) from error

    def _left(self, names: Sequence[str]) -> list[ast.stmt]:
        """Return what names need and did not run yet, and `from __future__` in each part."""
        wanted = needed(self.__tree, names)
        return [node for node in wanted if is_future(node) or id(node) not in self.__done]


def _move(names: Sequence[str]) -> str:
    return f"move {names[0]} into a module of its own, without the script's work"


def known_script(script: Script, where: str) -> ModuleType:
    """Return the module of a script, the one that is known already if there is one.

    Raises:
        RecipeError: As `load_script` does.
    """
    module = sys.modules.get(module_of_file(Path(script.file)))
    if not isinstance(module, ScriptModule):
        return load_script(script, where=where)
    module.define(script.names, where)
    sys.modules[script.module] = module
    return module


def load_script(script: Script, data: bytes | None = None, where: str = "--model") -> ModuleType:
    """Return a new module of a script, and make it known by its name.

    `data` takes the place of the file's bytes.

    Raises:
        RecipeError: If the file is no Python, or what is needed raises or is made by a loop.
    """
    file = Path(script.file)
    known = module_of_file(file)
    module = ScriptModule(script, _parsed(file, data, where))
    held = {name: sys.modules.get(name) for name in (script.module, known)}
    sys.modules.update(dict.fromkeys(held, module))
    try:
        module.define(script.names, where)
    except RecipeError:
        for name, before in held.items():
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
        raise
    return module


def _parsed(file: Path, data: bytes | None, where: str) -> ast.Module:
    try:
        return without_words(ast.parse(file.read_bytes() if data is None else data))
    except OSError as error:
        raise RecipeError(f"no file {str(file)!r}", where, "correct its name") from error
    except (SyntaxError, ValueError) as error:
        raise _unreadable(file, error, where) from error


def _unreadable(file: Path, error: Exception, where: str) -> RecipeError:
    text = " ".join(str(error).split())[:200]
    what = f"{file.name} cannot be read: {type(error).__name__}: {text}"
    return RecipeError(what, where, "correct it, or name another file")


def script_of(file: Path, names: Sequence[str]) -> Script:
    """Return a script under the name that an import of the file would have, where that is free."""
    known = module_of_file(file)
    if isinstance(module := sys.modules.get(known), ScriptModule):
        return Script(str(file), tuple(names), module.__name__)
    free = file.stem.isidentifier() and file.stem not in sys.modules
    return Script(str(file), tuple(names), file.stem if free else known)


def module_of_file(file: Path) -> str:
    """Return the name in `sys.modules` by which a file of code is found again."""
    digest = sha256(os.fsencode(file.resolve())).hexdigest()[:8]
    return f"modswap_file_{digest}"


@contextmanager
def importable(folder: str) -> Iterator[None]:
    """Allow imports of modules beside the recipe within a block."""
    entry = str(Path(folder).resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with suppress(ValueError):  # the code may have removed it
            sys.path.remove(entry)

"""Find a class in a package that a user allowed; a file names the class and chooses no code."""

import ast
import sys
from collections.abc import Iterator
from importlib.machinery import (
    BuiltinImporter,
    ExtensionFileLoader,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import Any

from modswap.core.asked.import_name import module_for
from modswap.core.asked.scripts.script import ScriptModule

# of a class, past what its metaclass may override
_namespace = vars(type)["__dict__"].__get__
_home = vars(type)["__module__"].__get__


def class_in_package(name: str, *, folder: str, where: str) -> type | None:
    """Return the class that a package defines under a dotted name, or None.

    A module that is not imported yet is imported if its source defines that class, or imports it
    from another module of the package. Not looked at are modules with a name in double underscores
    (`__main__`), extension modules, attributes that a module makes up when they are asked for, and
    classes that a module imported from another package.

    Raises:
        RecipeError: If a module is not there or raises; a package not installed is a
            `MissingModuleError`.
    """
    segments = name.split(".")
    if len(segments) < 2 or any(segment.startswith("__") for segment in segments):
        return None
    first = module_for(segments[0], "", folder, where)
    module_name, spec = _innermost_module(segments, first)
    names = segments[module_name.count(".") + 1 :]
    if module_name not in sys.modules and not _may_import(spec, names[0], segments[0]):
        return None
    module = module_for(module_name, "", folder, where)
    if not _is_own(module, module_name):
        return None
    if isinstance(module, ScriptModule) and module.defines(names[0]):
        module.define((names[0],), where)
    found: Any = vars(module).get(names[0])
    for segment in names[1:]:
        found = _namespace(found).get(segment) if is_class(found) else None
    home = str(_home(found)) if is_class(found) else ""
    return found if home.partition(".")[0] == segments[0] else None


def is_class(value: object) -> bool:
    """Return whether a value is a class, without asking the value."""
    return issubclass(type(value), type)


def _innermost_module(segments: list[str], package: ModuleType) -> tuple[str, ModuleSpec | None]:
    """Return the longest beginning of a dotted name that is a module; nothing is imported."""
    name, spec = segments[0], None
    folders = vars(package).get("__path__")
    for segment in segments[1:-1]:
        inner = f"{name}.{segment}"
        below = [str(Path(folder) / segment) for folder in folders or ()]
        try:
            found = PathFinder.find_spec(inner, folders) if folders is not None else None
        except KeyError:  # a folder without code, inside one that is not imported
            found = None
        else:
            if found is None and inner not in sys.modules:
                break
        name, spec = inner, found
        known = vars(sys.modules[inner]).get("__path__") if inner in sys.modules else None
        if known is None and (found is None or found.origin is None):
            # the list of a folder without code asks for the package around it
            known = below
        folders = known or (found.submodule_search_locations if found else None)
    return name, spec


def _may_import(spec: ModuleSpec | None, name: str, package: str) -> bool:
    """Return whether a module is Python source that defines a name, or has it from its package."""
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        return False
    try:
        tree = ast.parse(spec.loader.get_data(spec.loader.path))
    except (SyntaxError, ValueError):
        return True  # importing it says what is wrong, and runs nothing
    return any({name, "*"} & {*_bound(node, package)} for node in _at_the_top(tree))


def _at_the_top(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what is not inside a function or a class."""
    left: list[ast.AST] = [*tree.body]
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            left += ast.iter_child_nodes(node)


def _bound(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the names that a class statement, an assignment or an import gives to a class."""
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.ImportFrom):
        if node.level or str(node.module).partition(".")[0] == package:
            yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_own(module: ModuleType, name: str) -> bool:
    """Return whether a module is what its name says; packages register others' under their own."""
    held = vars(module)
    loader = getattr(held.get("__spec__"), "loader", None)
    compiled = isinstance(loader, ExtensionFileLoader) or loader is BuiltinImporter
    return held.get("__name__") == name and not compiled

"""Make a module of a script: only the statements run that its classes and functions need."""

import ast
import builtins
import symtable
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from modswap.core.asked.import_name import importable, module_of_file
from modswap.core.errors import RecipeError
from modswap.ops.run.describe import one_line

_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
                ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Pass, ast.Raise)  # fmt: skip
_DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.Constant, ast.Tuple)


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


def load_script(script: Script, data: bytes | None = None, where: str = "--model") -> ModuleType:
    """Return the module of a script, and make it known by its name.

    Imports, definitions and values that the names need are executed; loops, calls and all other
    statements are not. `data` takes the place of the file's bytes.

    Raises:
        RecipeError: If the file is no Python, or what is needed raises or is made by a loop.
    """
    file = Path(script.file)
    try:
        tree = ast.parse(file.read_bytes() if data is None else data)
        body = needed(tree, script.names)
        code = compile(ast.Module(body, []), script.file, "exec")
    except OSError as error:
        raise RecipeError(f"no file {script.file!r}", where, "correct its name") from error
    except (SyntaxError, ValueError) as error:
        what = f"{file.name} cannot be read: {one_line(error)}"
        raise RecipeError(what, where, "correct it, or name another file") from error
    module = ModuleType(script.module)
    module.__file__ = script.file
    known = module_of_file(file)
    sys.modules[script.module] = sys.modules[known] = module
    try:
        with importable(str(file.parent)):
            exec(code, vars(module))  # noqa: S102 - the user's own definitions, as an import runs them
    except (Exception, SystemExit) as error:
        del sys.modules[script.module]
        sys.modules.pop(known, None)
        what = f"the definitions that {script.names[0]} needs raised {one_line(error)}"
        fix = f"move {script.names[0]} into a module of its own, without the script's work"
        raise RecipeError(what, f"{file.name}", fix) from error
    return module


def script_of(file: Path, names: Sequence[str]) -> Script:
    """Return a script under the name that an import of the file would have, where that is free."""
    known = module_of_file(file)
    free = file.stem.isidentifier() and file.stem not in sys.modules
    return Script(str(file), tuple(names), file.stem if free else known)


def is_script(file: Path) -> bool:
    """Return whether an import of a file would do more than define and import."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    work = (ast.For, ast.While, ast.With, ast.Expr)
    return any(
        isinstance(node, work) and not isinstance(getattr(node, "value", None), ast.Constant)
        for node in tree.body
    )


def needed(tree: ast.Module, names: Sequence[str]) -> list[ast.stmt]:
    """Return the top statements that names need, in their order.

    Raises:
        ValueError: If a name is made by a loop or the like, which does the script's work.
    """
    found = [names_of(node) for node in tree.body]
    bound = {number: names for number, (names, _) in enumerate(found)}
    taken = {n for n, node in enumerate(tree.body) if _is_future(node)}
    pending, seen = list(names), set(names)
    while pending:
        for number in _made_by(tree, pending.pop(), bound):
            fresh = set() if number in taken else set.union(*found[number]) - seen
            taken.add(number)
            seen |= fresh
            pending += sorted(fresh)
    filled = seen & literals_of(tree)
    taken |= {n for n, node in enumerate(tree.body) if changed_name(node) in filled}
    return [tree.body[number] for number in sorted(taken)]


def _made_by(tree: ast.Module, name: str, bound: Mapping[int, set[str]]) -> Iterator[int]:
    """Yield the statements that bind a name."""
    found = [number for number, names in bound.items() if name in names]
    if not found and not hasattr(builtins, name):
        found = [n for n, node in enumerate(tree.body) if _is_star(node)]
    plain = [number for number in found if is_plain(tree.body[number])]
    if found and not plain:
        node = tree.body[found[0]]
        raise ValueError(f"{name} is made by line {node.lineno}, which does the script's work")
    yield from plain


def names_of(node: ast.stmt) -> tuple[set[str], set[str]]:
    """Return the names that a top statement binds, and the global names that it uses."""
    table = symtable.symtable(ast.unparse(node), "script", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    return bound, set(_used(table, top=True))


def _used(table: symtable.SymbolTable, *, top: bool) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (top or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _used(inner, top=False)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _is_star(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and any(one.name == "*" for one in node.names)


def is_plain(node: ast.stmt) -> bool:
    """Return whether a statement only defines and imports, also behind a condition."""
    if isinstance(node, ast.If):
        main = "__name__" in ast.unparse(node.test)
        return not main and all(map(is_plain, (*node.body, *node.orelse)))
    if isinstance(node, ast.Try):
        handled = (one for handler in node.handlers for one in handler.body)
        parts = (*node.body, *handled, *node.orelse, *node.finalbody)
        return all(map(is_plain, parts))
    return isinstance(node, _DEFINITIONS)


def changed_name(node: ast.stmt) -> str:
    """Return the name of the value that a statement changes: by an item, attribute or method."""
    target: ast.expr | None = None
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Subscript, ast.Attribute)):
        target = node.targets[0].value
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        target = called.value if isinstance(called, ast.Attribute) else None
    while isinstance(target, (ast.Subscript, ast.Attribute)):
        target = target.value
    return target.id if isinstance(target, ast.Name) else ""


def literals_of(tree: ast.Module) -> set[str]:
    """Return the names that begin as literals."""
    assigned = (one for one in tree.body if isinstance(one, ast.Assign))
    made = (one for one in assigned if isinstance(one.value, _DISPLAYS))
    return {t.id for one in made for t in one.targets if isinstance(t, ast.Name)}

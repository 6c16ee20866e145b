"""The statements of a script that its classes and functions need; none of them is run here."""

import ast
import builtins
import symtable
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
                ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Pass, ast.Raise)  # fmt: skip
_SETTINGS = ("sys.path", "os.environ")
_DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.Constant, ast.Tuple)


def is_script(file: Path) -> bool:
    """Return whether an import of a file would do more than define, import and hold values."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(map(_works, tree.body))


def _works(node: ast.stmt) -> bool:
    """Return whether a statement does work, also behind a condition: a loop, a block, a call."""
    match node:
        case ast.Expr(value=value):
            return not isinstance(value, ast.Constant)
        case ast.If():
            return not _is_main(node) and any(map(_works, (*node.body, *node.orelse)))
        case ast.Try():
            return any(map(_works, _parts(node)))
        case ast.Assign(value=value) | ast.AnnAssign(value=value) | ast.AugAssign(value=value):
            return value is not None and any(isinstance(n, ast.Call) for n in ast.walk(value))
    return not isinstance(node, _DEFINITIONS)


def _is_main(node: ast.If) -> bool:
    return "__name__" in ast.unparse(node.test)


def _parts(node: ast.Try) -> list[ast.stmt]:
    handled = (one for handler in node.handlers for one in handler.body)
    return [*node.body, *handled, *node.orelse, *node.finalbody]


def needed(tree: ast.Module, names: Sequence[str]) -> list[ast.stmt]:
    """Return the top statements that names need, in their order.

    Those that change `sys.path` or `os.environ` are among them, since imports depend on these.

    Raises:
        ValueError: If a name is made by a loop or the like, which does the script's work.
    """
    found = [names_of(node) for node in tree.body]
    bound = {number: names for number, (names, _) in enumerate(found)}
    taken = {n for n, node in enumerate(tree.body) if is_future(node) or _is_setting(node)}
    seen = set(names).union(*(found[number][1] for number in taken))
    pending = sorted(seen)
    while pending:
        for number in _made_by(tree, pending.pop(), bound):
            fresh = set() if number in taken else set.union(*found[number]) - seen
            taken.add(number)
            seen |= fresh
            pending += sorted(fresh)
    filled = seen & literals_of(tree)
    taken |= {n for n, node in enumerate(tree.body) if changed_name(node) in filled}
    return [tree.body[number] for number in sorted(taken)]


def _is_setting(node: ast.stmt) -> bool:
    """Return whether a statement changes where imports are looked for, or the environment."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = ast.unparse(node.value.func)
        return called.rpartition(".")[0] in _SETTINGS
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(
        isinstance(one, ast.Subscript) and ast.unparse(one.value) in _SETTINGS for one in targets
    )


def defined(tree: ast.Module) -> set[str]:
    """Return the names that statements bind which only define and import, and call nothing."""
    quiet = (node for node in tree.body if is_plain(node) and not _works(node))
    return {name for node in quiet for name in names_of(node)[0]}


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


def is_future(node: ast.stmt) -> bool:
    """Return whether a statement changes how all others are compiled."""
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _is_star(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and any(one.name == "*" for one in node.names)


def is_plain(node: ast.stmt) -> bool:
    """Return whether a statement only defines and imports, also behind a condition."""
    if isinstance(node, ast.If):
        return not _is_main(node) and all(map(is_plain, (*node.body, *node.orelse)))
    if isinstance(node, ast.Try):
        return all(map(is_plain, _parts(node)))
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

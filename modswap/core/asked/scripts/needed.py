"""The statements of a script that its classes and functions need; none of them is run here."""

import ast
import builtins
import symtable
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
                ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Pass, ast.Raise)  # fmt: skip
_SETTINGS = ("sys.path", "os.environ")
# names by which a function reaches any definition of its file
_DYNAMIC = frozenset({"globals", "locals", "vars", "eval", "exec"})
# methods and functions that change nothing of the program
_TELLING = frozenset({"print", "warn", "warning", "debug", "info", "error", "exception", "critical",
                      "log", "write", "flush"})  # fmt: skip
_PLACES = frozenset({"os", "sys", "pathlib"})
_DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.Constant, ast.Tuple)


def is_script(file: Path) -> bool:
    """Return whether an import of a file would do more than define, import and hold values."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return any(_does_work(node, own) for node in tree.body)


def _does_work(node: ast.stmt, own: Set[str]) -> bool:
    """Return whether a statement loops, or calls by itself, also behind a condition.

    A value that is made by a call counts where one of the file's own functions is called.
    """
    match node:
        case ast.Expr(value=value):
            return not isinstance(value, ast.Constant)
        case ast.If():
            inside = (*node.body, *node.orelse)
            return not _is_main(node) and any(_does_work(one, own) for one in inside)
        case ast.Try():
            return any(_does_work(one, own) for one in _parts(node))
        case ast.Assign(value=value) | ast.AnnAssign(value=value) | ast.AugAssign(value=value):
            calls = (one.func for one in _calls(value))
            return any(isinstance(func, ast.Name) and func.id in own for func in calls)
    return not isinstance(node, _DEFINITIONS)


def _calls(node: ast.AST | None) -> list[ast.Call]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Call)] if node else []


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _parts(node: ast.Try) -> list[ast.stmt]:
    handled = (one for handler in node.handlers for one in handler.body)
    return [*node.body, *handled, *node.orelse, *node.finalbody]


class WorkError(ValueError):
    """A name that is made, or changed, by the work of a script."""


def needed(tree: ast.Module, names: Sequence[str]) -> list[ast.stmt]:
    """Return the top statements that names need, in their order.

    They bind what is needed, change it (an item, an attribute, a method of a value), or register
    definitions in it. Those that change `sys.path` or `os.environ` by paths and literals are among
    them, since imports depend on these.

    Raises:
        WorkError: If a name is made or changed by a loop or the like, which does the script's work.
    """
    return _Needed(tree).of(names)


class _Needed:
    """The statements that names need; the search goes on until nothing more is found."""

    def __init__(self, tree: ast.Module) -> None:
        self.body = tree.body
        found = [names_of(node) for node in tree.body]
        self.bound, self.used = [bound for bound, _ in found], [used for _, used in found]
        self.held = {name for n, node in enumerate(self.body) if _is_value(node)
                     for name in self.bound[n]}  # fmt: skip
        self.taken: set[int] = set()
        self.seen: set[str] = set()
        self.asked: set[str] = set()  # whose makers were looked for

    def of(self, names: Sequence[str]) -> list[ast.stmt]:
        """Return the statements, in their order."""
        self.seen |= set(names)
        for number in self._settings():
            self._take(number)
        while fresh := sorted(self._makers() | self._changes()):
            for number in fresh:
                self._take(number)
        self._refuse_work()
        return [self.body[number] for number in sorted(self.taken)]

    def _settings(self) -> list[int]:
        """Return the statements that all others depend on."""
        found = enumerate(self.body)
        return [
            n for n, node in found if is_future(node) or (_is_setting(node) and self._is_simple(n))
        ]

    def _refuse_work(self) -> None:
        """Refuse a value that a loop or the like changes."""
        for number, node in enumerate(self.body):
            if number not in self.taken and (name := self._changed_in(node)):
                raise _work(name, node)

    def _makers(self) -> set[int]:
        """Return the statements that bind names which are needed, and were not taken yet."""
        fresh = self.seen - self.asked
        self.asked |= fresh
        return {number for name in sorted(fresh) for number in self._makers_of(name)} - self.taken

    def _changes(self) -> set[int]:
        """Return the statements that change what is needed, and were not taken yet."""
        found = enumerate(self.body)
        return {n for n, node in found if n not in self.taken and self._belongs(n, node)}

    def _take(self, number: int) -> None:
        self.taken.add(number)
        self.seen |= self.bound[number] | self.used[number]

    def _makers_of(self, name: str) -> list[int]:
        """Return the statements that bind a name."""
        found = [number for number, names in enumerate(self.bound) if name in names]
        if not found and not hasattr(builtins, name):
            return [number for number, node in enumerate(self.body) if _is_star(node)]
        plain = [number for number in found if is_plain(self.body[number])]
        self._refuse_others(name, [self.body[n] for n in found if n not in plain], bool(plain))
        return plain

    def _refuse_others(self, name: str, nodes: Sequence[ast.stmt], bound: bool) -> None:  # noqa: FBT001 - whether it is bound elsewhere
        """Refuse a name that the script's work binds, or only what runs where it is started."""
        for node in nodes:
            if not (bound and _is_main(node)):
                raise _work(name, node)

    def _belongs(self, number: int, node: ast.stmt) -> bool:
        """Return whether a statement changes what is needed, or registers itself there."""
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            dynamic = not _DYNAMIC.isdisjoint(self.seen)
            return dynamic or not self._registers(node).isdisjoint(self.seen & self.held)
        name = changed_name(node)
        if name not in self.seen:
            return False
        if isinstance(node, ast.Expr):
            return name in self.held and not _is_telling(node)
        return name in self.held or self._defined_here(name) or self._is_simple(number)

    def _defined_here(self, name: str) -> bool:
        kinds = (ast.ClassDef, ast.FunctionDef)
        return any(isinstance(node, kinds) and node.name == name for node in self.body)

    def _registers(self, node: ast.ClassDef | ast.FunctionDef) -> set[str]:
        """Return the names that the decorators of a definition use, by their own code too."""
        used = {one.id for decorator in node.decorator_list for one in ast.walk(decorator)
                if isinstance(one, ast.Name)}  # fmt: skip
        inner = (self.used[n] for n, one in enumerate(self.body)
                 if isinstance(one, ast.FunctionDef) and one.name in used)  # fmt: skip
        return used.union(*inner)

    def _is_simple(self, number: int, within: frozenset[int] = frozenset()) -> bool:
        """Return whether a statement is made of literals, paths and the environment alone."""
        node = self.body[number]
        if number in within or "argv" in ast.unparse(node):
            return False
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return _is_of_places(node)
        if not _is_value(node) and not _is_setting(node) and not changed_name(node):
            return False
        further = self.used[number] - self.bound[number]
        return all(self._is_simple_name(name, within | {number}) for name in further)

    def _is_simple_name(self, name: str, within: frozenset[int]) -> bool:
        """Return whether a name is Python's own, or all that binds it is simple."""
        found = [number for number, bound in enumerate(self.bound) if name in bound]
        known = bool(found) or name.startswith("__") or hasattr(builtins, name)
        return known and all(self._is_simple(number, within) for number in found)

    def _changed_in(self, node: ast.stmt) -> str:
        """Return a needed value that a loop or the like changes, or empty."""
        if is_plain(node) or _is_main(node):
            return ""
        inside = (one for one in ast.walk(node) if isinstance(one, ast.stmt))
        changed = (changed_name(one) for one in inside if not _is_telling(one))
        return next((name for name in changed if name in self.seen & self.held), "")


def _is_of_places(node: ast.Import | ast.ImportFrom) -> bool:
    """Return whether an import is of a library of paths and the environment."""
    module = getattr(node, "module", None) or node.names[0].name
    return module.partition(".")[0] in _PLACES


def _work(name: str, node: ast.stmt) -> WorkError:
    return WorkError(f"{name} is made by line {node.lineno}, which does the script's work")


def _is_value(node: ast.stmt) -> bool:
    """Return whether a statement binds names to values, also behind a condition."""
    if isinstance(node, (ast.If, ast.Try)):
        inside = _parts(node) if isinstance(node, ast.Try) else (*node.body, *node.orelse)
        return any(map(_is_value, inside))
    return isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign))


def _is_telling(node: ast.stmt) -> bool:
    """Return whether a statement only prints, warns or logs."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    called = node.value.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in _TELLING


def without_words(tree: ast.Module) -> ast.Module:
    """Return a tree whose conditions and `try` statements print, warn and log nothing."""
    for node in tree.body:
        if isinstance(node, (ast.If, ast.Try)) and not _is_main(node):
            _Silent().visit(node)
    return tree


class _Silent(ast.NodeTransformer):
    """Puts `pass` for what only prints, warns or logs; functions and classes stay."""

    def visit(self, node: ast.AST) -> Any:
        """Return a node without such statements."""
        if isinstance(node, ast.stmt) and _is_telling(node):
            return ast.copy_location(ast.Pass(), node)
        inner = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        return node if isinstance(node, inner) else self.generic_visit(node)


def _is_setting(node: ast.stmt) -> bool:
    """Return whether a statement changes where imports are looked for, or the environment."""
    if isinstance(node, ast.If) and not _is_main(node):
        return all(map(_is_setting, (*node.body, *node.orelse)))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = ast.unparse(node.value.func)
        return called.rpartition(".")[0] in _SETTINGS
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(
        isinstance(one, ast.Subscript) and ast.unparse(one.value) in _SETTINGS for one in targets
    )


def defined(tree: ast.Module) -> set[str]:
    """Return the names that plain statements bind."""
    return {name for node in tree.body if is_plain(node) for name in names_of(node)[0]}


def defined_without_calls(tree: ast.Module) -> set[str]:
    """Return the names of classes, functions and imports, and of values that no call makes."""
    inner = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    plain = (node for node in tree.body if is_plain(node))
    quiet = (node for node in plain if isinstance(node, inner) or not _calls(node))
    return {name for node in quiet for name in names_of(node)[0]}


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
    bound = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    if isinstance(bound, (ast.Subscript, ast.Attribute)):
        target = bound.value
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

"""The statements of a function's source: their rows, and the names that they set."""

import ast
import io
import linecache
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.ClassDef)
_RETURNING = (ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith)
_BODIES = ("body", "handlers", "orelse", "finalbody", "cases")
_TARGETS = ("targets", "target", "items", "test", "value", "iter")


class Statement(NamedTuple):
    """A statement, or the head of one that has others in it."""

    first: int  # numbers of its first and last line
    last: int
    sets: tuple[str, ...]  # names and attributes that it sets
    key: str  # by which its explanation is found: the names, `return`, or the function called
    rows: tuple[str, ...]  # without comments and the function's indentation
    # the statements in it, if Python comes back to its head after them; they follow it. Else 0
    inner: int


class FunctionSource(NamedTuple):
    """The source of a function."""

    statements: tuple[Statement, ...]
    owners: dict[int, int]  # the number of the statement that a line belongs to


def source_of(code: CodeType) -> FunctionSource | None:
    """Return the source of a function; None where there is none to read, and for a lambda."""
    # two functions with the same instructions are equal, also of different files
    return _source_in(code.co_filename, code)


@lru_cache(maxsize=4096)
def _source_in(filename: str, code: CodeType) -> FunctionSource | None:
    if code.co_name.startswith("<"):
        return None
    linecache.checkcache(filename)
    return _sources("".join(linecache.getlines(filename))).get(code.co_firstlineno)


@lru_cache(maxsize=256)
def _sources(text: str) -> dict[int, FunctionSource]:
    """Return the functions of a file's text, by the number of their first line."""
    try:
        tree = ast.parse(text)
        rows = _without_comments(text)
    except (SyntaxError, ValueError, tokenize.TokenError):
        return {}
    functions = (node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS))
    return {_first_line(node): _source(node, rows) for node in functions}


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(one.lineno for one in node.decorator_list)])


def _without_comments(text: str) -> list[str]:
    rows = text.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            rows[row - 1] = rows[row - 1][:column]
    return rows


def _source(function: ast.FunctionDef | ast.AsyncFunctionDef, rows: list[str]) -> FunctionSource:
    indent = function.body[0].col_offset
    keys: Counter[str] = Counter()
    statements, owners = [], {}
    for number, (node, before) in enumerate(_parts(function)):
        first, last = _row(node), _last_of_head(node)
        sets = tuple(dict.fromkeys(_set_names(node)))
        key = _key(node, sets)
        keys[key] += 1
        key += f" ({keys[key]})" if keys[key] > 1 else ""
        shown = (_dedented(row, indent) for row in (before, *rows[first - 1 : last]))
        # an inner statement on the row of an outer one gets it
        owners.update(dict.fromkeys(range(first, last + 1), number))
        kept = tuple(row for row in shown if row)
        inner = len(list(_parts(node))) if isinstance(node, _RETURNING) else 0
        statements.append(Statement(first, last, sets, key, kept, inner))
    return FunctionSource(tuple(statements), owners)


def _dedented(row: str, indent: int) -> str:
    return row[indent:].rstrip() if not row[:indent].strip() else row.strip()


_Node = ast.stmt | ast.excepthandler | ast.match_case
_NODES = (ast.stmt, ast.excepthandler, ast.match_case)
_WORDS = {"orelse": "else:", "finalbody": "finally:"}


def _parts(node: ast.AST) -> Iterator[tuple[_Node, str]]:
    """Yield the statements in a node, outer before inner; those of inner functions are theirs.

    With each comes the row that introduces it, `else:` or `finally:`, or an empty one.
    """
    for name in _BODIES:
        row = _introduction(node, name)
        for inner in getattr(node, name, ()):
            if isinstance(inner, _NODES) and not _is_text(inner):
                yield inner, row
                row = ""
            if not isinstance(inner, _SCOPES):
                yield from _parts(inner)


def _introduction(node: ast.AST, name: str) -> str:
    """Return the row before the statements under a name; empty for an `elif`, which has its own."""
    parts = getattr(node, name, ())
    column = getattr(node, "col_offset", 0)
    if name not in _WORDS or not parts or parts[0].col_offset <= column:
        return ""
    return " " * column + _WORDS[name]


def _row(node: _Node) -> int:
    """Return the number of the first row of a node."""
    return node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno


def _is_text(node: ast.AST) -> bool:
    """Return whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _last_of_head(node: _Node) -> int:
    end = getattr(node, "end_lineno", None) or _row(node)
    inner = getattr(node, "body", None) or getattr(node, "cases", None)
    if not inner:
        return end
    decorated = getattr(inner[0], "decorator_list", ())
    begins = min([_row(inner[0]), *(int(one.lineno) for one in decorated)])
    return max(_row(node), begins - 1)


def _set_names(node: _Node) -> Iterator[str]:
    """Yield the names and attributes that a statement sets, also by a method such as `sub_`."""
    parts = [part for name in _TARGETS for part in _listed(getattr(node, name, None))]
    inner = {id(one) for part in parts for one in _inside_comprehensions(part)}
    for one in (one for part in parts for one in ast.walk(part) if id(one) not in inner):
        match one:
            case ast.Name(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
                yield ast.unparse(one)
            case ast.Subscript(ctx=ast.Store(), value=value):
                yield ast.unparse(value)
    called = _called(node)
    match called:
        case ast.Attribute(value=ast.Name(id=name), attr=method) if method.endswith("_"):
            yield name


def _listed(found: object) -> list[ast.AST]:
    if isinstance(found, list):
        return found
    return [found] if isinstance(found, ast.AST) else []


def _inside_comprehensions(part: ast.AST) -> Iterator[ast.AST]:
    for one in ast.walk(part):
        if isinstance(one, ast.comprehension):
            yield from ast.walk(one.target)


def _called(node: _Node) -> ast.expr | None:
    """Return the function that a statement calls and does nothing else."""
    call = node.value if isinstance(node, ast.Expr) else None
    return call.func if isinstance(call, ast.Call) else None


def _key(node: _Node, sets: tuple[str, ...]) -> str:
    called = _called(node)
    if called is not None:
        return ast.unparse(called)
    if isinstance(node, (ast.If, ast.While)):
        return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
    return ", ".join(sets) or type(node).__name__.lower()

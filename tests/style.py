"""Counts and searches in source files, for the tests of the house style."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

_BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension,
    ast.match_case,
)  # fmt: skip
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_OPENINGS = re.compile(r"(what|whatever|one|likewise|that|whether|how|who|whom)\b", re.IGNORECASE)
_ANYWHERE = re.compile(r"\b(whatever|likewise|told|tells|lies|stands)\b", re.IGNORECASE)
_UNCLEAR = re.compile(
    r"(?<![a-z])(whatever|likewise|told|tells|lies|stands)(?![a-z])", re.IGNORECASE
)
_SWITCH = re.compile(
    r"#\s*(?:noqa(?::\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*)?|type:\s*ignore(?:\[[\w, -]+\])?"
    r"|pragma:[ \w]*\w)(?P<reason>.*)"
)
_PLANS = re.compile(r"\b(TODO|FIXME|XXX)\b")
_COVERS = re.compile(r"Covers:\s+(?P<names>[\w.,\s]+?)\.(?:\s|\Z)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A parsed source file.

    Args:
        name: Its path below the package, with slashes.
        text: Its text.
        tree: Its syntax tree.
    """

    name: str
    text: str
    tree: ast.Module

    @cached_property
    def documented(self) -> list[ast.Module | Function | ast.ClassDef]:
        """Return all that may have a docstring: the module, every function and class."""
        return [node for node in _statements(self.tree) if isinstance(node, (ast.Module, *_SCOPES))]

    @property
    def functions(self) -> list[Function]:
        """Return every function, nested ones and methods included."""
        return [node for node in self.documented if isinstance(node, Function)]

    @property
    def classes(self) -> list[str]:
        """Return the name of every class."""
        return [node.name for node in self.documented if isinstance(node, ast.ClassDef)]

    @cached_property
    def comments(self) -> list[tokenize.TokenInfo]:
        """Return every comment, of a file whose text a rule about comments may complain of."""
        if not any(rule.search(self.text) for rule in (_UNCLEAR, _SWITCH, _PLANS)):
            return []  # tokens take 10 ms a file
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [token for token in tokens if token.type == tokenize.COMMENT]


@cache
def sources(package: Path) -> list[Source]:
    """Return every source file of a package, in the order of their names."""
    return [
        parsed(file.relative_to(package).as_posix(), file.read_text(encoding="utf-8"))
        for file in sorted(package.rglob("*.py"))
    ]


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield a module and all of its statements, without their expressions, which are the most."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop(0)
        yield node
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            below = getattr(node, field, ())
            pending += below if isinstance(below, list) else ()


def parsed(name: str, text: str) -> Source:
    """Return a source text as a file of this name."""
    return Source(name, text, ast.parse(text))


@cache
def branch_score(function: Function) -> int:
    """Return 1 + branches, loops, handlers, boolean operators and comprehensions of a function.

    A nested function or class has a score of its own.
    """
    score, pending = 1, list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        if isinstance(node, _SCOPES):
            continue
        score += isinstance(node, _BRANCHES)
        score += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
        pending += ast.iter_child_nodes(node)
    return score


def body_lines(function: Function) -> int:
    """Return the number of lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: Function) -> int:
    """Return the number of named parameters of a function, without `self` and `cls`."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def banned_first_lines(source: Source) -> list[str]:
    """Return the first lines of docstrings that open with or contain a banned word."""
    firsts = [
        (ast.get_docstring(node, clean=False) or "").partition("\n")[0]
        for node in source.documented
    ]
    return [line for line in firsts if _OPENINGS.match(line) or _ANYWHERE.search(line)]


def unclear(source: Source) -> list[str]:
    """Return the names of tests, docstrings and comments with a word that has several meanings."""
    names = [function.name for function in source.functions if function.name.startswith("test_")]
    docstrings = [ast.get_docstring(node, clean=False) or "" for node in source.documented]
    comments = [token.string for token in source.comments]
    return [text for text in (*names, *docstrings, *comments) if _UNCLEAR.search(text)]


def unreasoned(source: Source) -> list[str]:
    """Return the comments that switch a tool off without a reason behind them."""
    found = ((token, _SWITCH.search(token.string)) for token in source.comments)
    return [
        f"{token.start[0]}: {token.string}"
        for token, switch in found
        if switch is not None and not re.search(r"\w{2,}", switch["reason"])
    ]


def plans(source: Source) -> list[str]:
    """Return the comments that promise work for later."""
    return [token.string for token in source.comments if _PLANS.search(token.string)]


def covered(source: Source) -> list[str]:
    """Return the modules that a test file is for, as paths below the package.

    These are the module of its own name, and those that its docstring lists: `Covers: a, b, c.d.`
    names `a.py`, `b.py` and `c/d.py` of the folder that the test's folder mirrors.

    Args:
        source: The test file, named by its path below the folder of all tests.
    """
    file = PurePosixPath(source.name)
    docstring = ast.get_docstring(source.tree) or ""
    listed = _COVERS.search(docstring)
    names = [file.stem.removeprefix("test_")]
    names += re.split(r"[,\s]+", listed["names"]) if listed else []
    return [(file.parent / f"{name.replace('.', '/')}.py").as_posix() for name in names]

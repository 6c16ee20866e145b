"""Counts and searches in source files, for the tests of the house style."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
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

    @property
    def functions(self) -> list[Function]:
        """Return every function, nested ones and methods included."""
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]

    @property
    def classes(self) -> list[str]:
        """Return the name of every class."""
        return [node.name for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]


def sources(package: Path) -> list[Source]:
    """Return every source file of a package, in the order of their names."""
    return [
        parsed(file.relative_to(package).as_posix(), file.read_text(encoding="utf-8"))
        for file in sorted(package.rglob("*.py"))
    ]


def parsed(name: str, text: str) -> Source:
    """Return a source text as a file of this name."""
    return Source(name, text, ast.parse(text))


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
    documented = [
        node for node in ast.walk(source.tree) if isinstance(node, (ast.Module, *_SCOPES))
    ]
    firsts = [(ast.get_docstring(node) or "").partition("\n")[0] for node in documented]
    return [line for line in firsts if _OPENINGS.match(line) or _ANYWHERE.search(line)]


def unclear(source: Source) -> list[str]:
    """Return the names of tests, docstrings and comments with a word that has several meanings."""
    names = [function.name for function in source.functions if function.name.startswith("test_")]
    nodes = (node for node in ast.walk(source.tree) if isinstance(node, (ast.Module, *_SCOPES)))
    docstrings = [ast.get_docstring(node) or "" for node in nodes]
    comments = [token.string for token in _comments(source)]
    return [text for text in (*names, *docstrings, *comments) if _UNCLEAR.search(text)]


def _comments(source: Source) -> Iterator[tokenize.TokenInfo]:
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token


def unreasoned(source: Source) -> list[str]:
    """Return the comments that switch a tool off without a reason behind them."""
    found = ((token, _SWITCH.search(token.string)) for token in _comments(source))
    return [
        f"{token.start[0]}: {token.string}"
        for token, switch in found
        if switch is not None and not re.search(r"\w{2,}", switch["reason"])
    ]


def plans(source: Source) -> list[str]:
    """Return the comments that promise work for later."""
    return [token.string for token in _comments(source) if _PLANS.search(token.string)]


def covered(file: Path, tests: Path) -> list[str]:
    """Return the modules that a test file is for, as paths below the package.

    These are the module of its own name, and those that its docstring lists: `Covers: a, b, c.d.`
    names `a.py`, `b.py` and `c/d.py` of the folder that the test's folder mirrors.

    Args:
        file: The test file.
        tests: The folder of all tests.
    """
    folder = file.parent.relative_to(tests)
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    listed = _COVERS.search(docstring)
    names = [file.stem.removeprefix("test_")]
    names += re.split(r"[,\s]+", listed["names"]) if listed else []
    return [(folder / f"{name.replace('.', '/')}.py").as_posix() for name in names]

"""The user's own source files: text, syntax tree, and the places of calls and classes."""

import ast
import os
import re
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path

Span = tuple[
    int, int, int, int
]  # line, last line, column, end column (UTF-8 bytes), as ast has them
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
# of an expression that is worth keeping: names, attributes, items and arithmetic
_PLAIN = (ast.Name, ast.Attribute, ast.Subscript, ast.BinOp, ast.Constant, ast.Load, ast.operator,
          ast.USub, ast.UnaryOp)  # fmt: skip
_PACKAGE = Path(__file__).parents[3]
_DEMO = _PACKAGE / "ops" / "demo"  # its network is an example of a user's own
Function = ast.FunctionDef | ast.AsyncFunctionDef


def span_of(node: ast.expr | ast.stmt) -> Span:
    """Return the place of a node, in the order of a code object's positions."""
    return node.lineno, node.end_lineno or 0, node.col_offset, node.end_col_offset or 0


def is_own(file: str) -> bool:
    """Return whether a file is the user's: on the disk, and of no installed package."""
    if not os.path.isfile(file):  # noqa: PTH113 - a code object's file may be any text
        return False
    place = os.path.realpath(file)
    if is_ours(file):
        return place.startswith(f"{_DEMO}{os.sep}")
    known = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    known |= {entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    return not any(place.startswith(f"{os.path.realpath(one)}{os.sep}") for one in known)


def file_of(cls: type) -> str:
    """Return the file of a class's module; empty for a class without one."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or ""


def is_ours(file: str) -> bool:
    """Return whether a file is one of modswap."""
    return os.path.realpath(file).startswith(f"{_PACKAGE}{os.sep}")


class SourceFile:
    """A source file as it was read."""

    def __init__(self, file: str, data: bytes) -> None:
        self.file = file
        self.data = data
        self.encoding = tokenize.detect_encoding(BytesIO(data).readline)[0]
        self.text = data.decode(self.encoding)
        self.tree = ast.parse(self.text)

    @cached_property
    def parents(self) -> Mapping[ast.AST, ast.AST]:
        """Return the node around each node."""
        return {c: node for node in ast.walk(self.tree) for c in ast.iter_child_nodes(node)}

    @cached_property
    def calls(self) -> Mapping[Span, ast.Call]:
        """Return the calls by their places."""
        return {span_of(n): n for n in ast.walk(self.tree) if isinstance(n, ast.Call)}

    @cached_property
    def lines(self) -> Sequence[str]:
        """Return the lines with their ends; form feeds end none, as in Python's own count."""
        return _LINE.findall(self.text)

    @cached_property
    def starts(self) -> Sequence[int]:
        """Return the offset of each line in the text, and that of the text's end."""
        offsets = [0]
        for line in self.lines:
            offsets.append(offsets[-1] + len(line))
        return offsets

    @property
    def newline(self) -> str:
        """Return the line end of the file."""
        first = self.lines[0] if self.lines else "\n"
        return "\r\n" if first.endswith("\r\n") else "\r" if first.endswith("\r") else "\n"

    def offset(self, line: int, column: int) -> int:
        """Return the offset in the text of a line from 1 and a column in UTF-8 bytes."""
        before = self.lines[line - 1].encode()[:column].decode()
        return self.starts[line - 1] + len(before)

    def segment(self, node: ast.expr | ast.stmt) -> str:
        """Return the text of a node."""
        line, last, column, end = span_of(node)
        return self.text[self.offset(line, column) : self.offset(last, end)]

    def indent(self, line: int) -> str:
        """Return the white space that a line begins with."""
        text = self.lines[line - 1]
        return text[: len(text) - len(text.lstrip())].rstrip("\r\n")

    def words(self, call: ast.Call) -> Iterator[str]:
        """Yield the plain expressions among a call's arguments, also inside of nested calls."""
        for node in (*call.args, *(keyword.value for keyword in call.keywords)):
            yield from self._words(node)

    def _words(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.expr) and all(isinstance(one, _PLAIN) for one in ast.walk(node)):
            named = any(isinstance(one, ast.Name) for one in ast.walk(node))
            yield from [self.segment(node)] if named else []
        elif isinstance(node, ast.Call):
            yield from self.words(node)
        else:
            for child in ast.iter_child_nodes(node):
                yield from self._words(child)

    @cached_property
    def classes(self) -> Mapping[str, ast.ClassDef]:
        """Return the classes by their qualified names, the last of each name."""
        found: dict[str, ast.ClassDef] = {}

        def walk(node: ast.AST, prefix: str) -> None:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.ClassDef):
                    found[f"{prefix}{child.name}"] = child
                    walk(child, f"{prefix}{child.name}.")
                elif isinstance(child, Function):
                    walk(child, f"{prefix}{child.name}.<locals>.")
                else:
                    walk(child, prefix)

        walk(self.tree, "")
        return found

    def constructor(self, qualname: str) -> Function | None:
        """Return the `__init__` that a class defines itself, or None."""
        cls = self.classes.get(qualname)
        found = (n for n in cls.body if isinstance(n, Function)) if cls is not None else ()
        return next((one for one in found if one.name == "__init__"), None)

    def outermost(self, node: ast.AST) -> str:
        """Return the name of the outermost function or class around a node."""
        name = "<module>"
        while node in self.parents:
            node = self.parents[node]
            name = node.name if isinstance(node, (ast.ClassDef, Function)) else name
        return name

    @cached_property
    def defined(self) -> frozenset[str]:
        """Return the names of the file's functions and classes that it imports nowhere."""
        made = {n.name for n in self.tree.body if isinstance(n, (ast.ClassDef, Function))}
        imports = (n for n in ast.walk(self.tree) if isinstance(n, ast.ImportFrom))
        taken = {one.asname or one.name for node in imports for one in node.names}
        return frozenset(made - taken) if "*" not in taken else frozenset()

    @cached_property
    def bound(self) -> frozenset[str]:
        """Return every name that is bound anywhere in the file, except by imports."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found.add(node.name)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
        return frozenset(found)


class Sources:
    """The user's own source files, each read once."""

    def __init__(self) -> None:
        self._known: dict[str, SourceFile | None] = {}

    def of(self, file: str) -> SourceFile | None:
        """Return a file of the user's own; None for any other, and for one that is no Python."""
        if file not in self._known:
            self._known[file] = self._read(file)
        return self._known[file]

    @staticmethod
    def _read(file: str) -> SourceFile | None:
        if not is_own(file):
            return None
        try:
            return SourceFile(file, Path(file).read_bytes())
        except (OSError, SyntaxError, ValueError):
            return None

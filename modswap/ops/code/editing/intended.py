"""Compare the syntax trees of a file before and after a change: only intended nodes may differ."""

import ast
from collections.abc import Mapping, Sequence

from modswap.core.errors import UsageError
from modswap.ops.code.building.source import Function, SourceFile, Span, span_of


def refuse_unintended(
    source: SourceFile,
    text: str,
    calls: Mapping[Span, str],
    lines: Mapping[str, Sequence[str]],
    imports: Sequence[str],
) -> None:
    """Refuse a changed text that differs in more than the replaced calls and the added lines.

    Raises:
        UsageError: If it is no Python any more, or another node differs.
    """
    try:
        new = ast.parse(text)
    except SyntaxError as error:
        what = f"the change would break its syntax at line {error.lineno}"
        raise UsageError(what, source.file, "format the file, and try again") from None
    constructors = {source.constructor(name): _parsed(some) for name, some in lines.items()}
    comparing = _Comparing(calls, constructors, _parsed(imports))
    if place := comparing.difference(source.tree, new):
        what = f"the change would reach beyond the new modules, at line {place}"
        raise UsageError(what, source.file, "format the file, and try again")


def _parsed(statements: Sequence[str]) -> list[str]:
    return [ast.dump(node) for text in statements for node in ast.parse(text).body]


class _Comparing:
    """Walks two trees side by side."""

    def __init__(
        self,
        calls: Mapping[Span, str],
        constructors: Mapping[Function | None, Sequence[str]],
        imports: Sequence[str],
    ) -> None:
        self.calls = {span: ast.dump(ast.parse(t, mode="eval").body) for span, t in calls.items()}
        self.constructors = constructors
        self.imports = imports

    def difference(self, old: ast.AST, new: ast.AST) -> int:
        """Return the line of the first difference that is not intended, or 0."""
        if isinstance(old, ast.Call) and span_of(old) in self.calls:
            return 0 if ast.dump(new) == self.calls[span_of(old)] else old.lineno
        line = getattr(old, "lineno", 1)
        if type(old) is not type(new):
            return line
        pairs = ((name, getattr(old, name, None), getattr(new, name, None)) for name in old._fields)
        found = (self._of_field(old, name, (was, now), line) for name, was, now in pairs)
        return next(filter(None, found), 0)

    def _of_field(self, old: ast.AST, name: str, pair: tuple[object, object], line: int) -> int:
        was, now = pair
        if name == "body" and isinstance(now, list):
            now = self._without(old, now)
        return self._of_values(was, now, line)

    def _without(self, old: ast.AST, body: Sequence[ast.AST]) -> list[ast.AST]:
        """Return a body without the statements that are to be added there."""
        added: list[str] = []
        if isinstance(old, ast.Module):
            added = list(self.imports)
        elif isinstance(old, Function):
            added = list(self.constructors.get(old, ()))
        kept = []
        for node in body:
            text = ast.dump(node)
            if text in added:
                added.remove(text)
            else:
                kept.append(node)
        return kept if not added else []

    def _of_values(self, was: object, now: object, line: int) -> int:
        if isinstance(was, ast.AST) and isinstance(now, ast.AST):
            return self.difference(was, now)
        if not isinstance(was, list) or not isinstance(now, list):
            return 0 if type(was) is type(now) and was == now else line
        if len(was) != len(now):
            return line
        found = (self._of_values(a, b, line) for a, b in zip(was, now, strict=True))
        return next(filter(None, found), 0)

"""A module of Python whose statements are taken one by one: what each binds and refers to."""

import ast
import dis
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import CO_OPTIMIZED
from types import CodeType

from modswap.core.asked.scripts.needed import names_of
from modswap.ops.code.building.source import SourceFile, Span, span_of

_AT_ONCE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")


@dataclass(frozen=True, slots=True)
class Imported:
    """A name that an import binds.

    Args:
        module: The module, absolute.
        member: The name in it; empty for the module itself.
        local: The name that is bound.
    """

    module: str
    member: str
    local: str

    def statement(self, name: str) -> str:
        """Return the import, under a name."""
        if self.member:
            alias = "" if name == self.member else f" as {name}"
            return f"from {self.module} import {self.member}{alias}"
        top = self.module.split(".")[0]
        return f"import {self.module}" + ("" if name in {self.module, top} else f" as {name}")


class PythonModule:
    """A source file as a module of a name."""

    def __init__(self, name: str, source: SourceFile, *, package: bool) -> None:
        self.name = name
        self.source = source
        self._package = name if package else name.rpartition(".")[0]
        self.statements = source.tree.body

    @cached_property
    def bound(self) -> Mapping[str, list[int]]:
        """Return the numbers of the statements that bind each name."""
        found: dict[str, list[int]] = {}
        for number, node in enumerate(self.statements):
            for name in names_of(node)[0]:
                found.setdefault(name, []).append(number)
        return found

    @cached_property
    def imported(self) -> Mapping[str, Imported]:
        """Return what the top imports bind, by the bound names."""
        found: dict[str, Imported] = {}
        for node in self.statements:
            found |= {one.local: one for one in self.imports_of(node)}
        return found

    def imports_of(self, node: ast.AST) -> Iterator[Imported]:
        """Yield what an import statement binds; nothing for any other."""
        if isinstance(node, ast.Import):
            yield from map(_of_alias, node.names)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            module = self._absolute(node)
            yield from (Imported(module, one.name, one.asname or one.name) for one in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self._package.split(".")
        above = parts[: len(parts) - node.level + 1]
        return ".".join((*above, *([node.module] if node.module else [])))

    @cached_property
    def postponed(self) -> bool:
        """Return whether annotations are not evaluated."""
        return any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__"
            for node in self.statements
        )

    @cached_property
    def names(self) -> Mapping[Span, ast.Name]:
        """Return the names in the file by their places."""
        nodes = ast.walk(self.source.tree)
        return {span_of(node): node for node in nodes if isinstance(node, ast.Name)}

    def globals_of(self, number: int, *, now: bool) -> list[ast.Name]:
        """Return the names in a statement that are those of the module, in their order.

        These are the ones that its execution reads `now`, or those that its functions read later.
        """
        code = compile(ast.Module([self.statements[number]], []), self.source.file, "exec")
        found = list(_global_spans(code, top=True))
        first = {span for span, at_once in found if at_once}
        spans = dict.fromkeys(span for span, _ in found if (span in first) is now)
        return [self.names[span] for span in spans if span in self.names]

    def locals_of(self, number: int) -> set[str]:
        """Return the names that a statement binds itself, at any depth."""
        nodes = list(ast.walk(self.statements[number]))
        stored = (n for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load))
        args = (n.arg for n in nodes if isinstance(n, ast.arg))
        return {*(n.id for n in stored), *args}

    def annotations_of(self, number: int) -> Iterator[tuple[ast.expr, str]]:
        """Yield the annotations in a statement, quoted, if they are postponed."""
        for node in ast.walk(self.statements[number]) if self.postponed else ():
            for field in ("annotation", "returns"):
                found = getattr(node, field, None)
                if isinstance(found, ast.expr):
                    yield found, json.dumps(ast.unparse(found))


def _global_spans(
    code: CodeType, *, top: bool, at_once: bool = True
) -> Iterator[tuple[Span, bool]]:
    """Yield the places at which compiled code reads names of its module, and whether at once."""
    steps = list(dis.get_instructions(code))
    optimized = bool(code.co_flags & CO_OPTIMIZED)
    # a class's body reads its own names first
    stored = {one.argval for one in steps if one.opname == "STORE_NAME"}
    own = set() if top or optimized else stored
    at_once = at_once and (not optimized or code.co_name in _AT_ONCE)
    for one in steps:
        if one.opname in _LOADS and one.argval not in own and one.positions is not None:
            line, last, column, end = (number or 0 for number in one.positions)
            yield (line, last, column, end), at_once
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _global_spans(inner, top=False, at_once=at_once)


def _of_alias(one: ast.alias) -> Imported:
    above, _, last = one.name.rpartition(".")
    if one.asname and above:  # the same as `from above import last`
        return Imported(above, last, one.asname)
    return Imported(one.name, "", one.asname or one.name.split(".")[0])

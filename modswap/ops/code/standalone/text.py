"""Print the statements that were taken as one module, with names that do not collide."""

import ast
from collections.abc import Mapping

from modswap.ops.code.building.source import span_of
from modswap.ops.code.standalone.module import Imported, PythonModule
from modswap.ops.code.standalone.shake import Defined, Shaker, Target

MAX_LINE = 100  # characters of an import of several names


class Printed:
    """The names and the text of what a shaker has taken."""

    def __init__(self, shaker: Shaker, reserved: tuple[str, ...]) -> None:
        self.shaker = shaker
        self.renamed: list[str] = []
        self._names: dict[Target, str] = {}
        self._used: set[str] = set(reserved)
        self._avoided = self._shadows()
        for one in shaker.imports:
            self._names[one] = self._free(one.local, one)
        for module, number in shaker.taken:
            known = self._module(module)
            for name, numbers in known.bound.items():
                target = Defined(module, name)
                if number in numbers and target not in self._names:
                    self._names[target] = self._free(name, target)

    def _shadows(self) -> dict[Target, set[str]]:
        """Return for each target the local names where it is referred to by another name."""
        found: dict[Target, set[str]] = {}
        for module, number in self.shaker.taken:
            known = self._module(module)
            for node, target in self.shaker.all_references(known, number):
                own = target.local if isinstance(target, Imported) else _last(target)
                if not isinstance(node, ast.Name) or node.id != own:
                    found.setdefault(target, set()).update(known.locals_of(number))
        return found

    def name(self, target: Target) -> str:
        """Return the name of a target in the text."""
        return self._names[target]

    def _module(self, name: str) -> PythonModule:
        module = self.shaker.module(name)
        assert module is not None  # noqa: S101 - only statements of inlined modules are taken
        return module

    def _free(self, name: str, target: Defined | Imported) -> str:
        """Return a name, or another one if something else has it."""
        same = isinstance(target, Imported) and self._is_same(name)
        avoided = self._avoided.get(target, set())
        if (name not in self._used or same) and name not in avoided:
            self._used.add(name)
            return name
        number, last = 2, target.module.rpartition(".")[2]
        found = f"{name}_of_{last}"
        while found in self._used | avoided:
            found = f"{name}_of_{last}_{number}"
            number += 1
        self._used.add(found)
        self.renamed.append(f"{target.module}.{name}")
        return found

    def _is_same(self, name: str) -> bool:
        """Return whether a name is that of a module whose parts several imports bind."""
        parts = [one for one in self._names if isinstance(one, Imported) and not one.member]
        return any(self._names[one] == name and one.module.split(".")[0] == name for one in parts)

    def imports(self) -> list[str]:
        """Return the imports, those of one module on one line where that is short."""
        whole = sorted({one.statement(self._names[one]) for one in self._plain(member=False)})
        members: dict[str, set[str]] = {}
        for one in self._plain(member=True):
            name = self._names[one]
            alias = one.member if name == one.member else f"{one.member} as {name}"
            members.setdefault(one.module, set()).add(alias)
        lines = list(whole)
        for module, names in sorted(members.items()):
            line = f"from {module} import {', '.join(sorted(names))}"
            each = [f"from {module} import {name}" for name in sorted(names)]
            lines += [line] if len(line) <= MAX_LINE else each
        return lines

    def _plain(self, *, member: bool) -> list[Imported]:
        return [one for one in self.shaker.imports if bool(one.member) is member]

    def body(self) -> str:
        """Return the statements, each module's part under its name."""
        parts: list[str] = []
        last = ""
        for module, number in self.shaker.taken:
            known = self._module(module)
            if isinstance(known.statements[number], (ast.Import, ast.ImportFrom)):
                continue
            parts += [f"# from {module}"] if module != last else []
            parts.append(self._statement(known, number))
            last = module
        return "\n\n\n".join(parts)

    def _statement(self, module: PythonModule, number: int) -> str:
        """Return the text of a statement, with the new names in it."""
        source, node = module.source, module.statements[number]
        decorated = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorated)])
        column = 0 if decorated else node.col_offset
        start = source.offset(first, column)
        end = source.offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
        text = source.text
        edits = self._edits(module, number)
        for (at, to), new in sorted(edits.items(), reverse=True):
            text = text[:at] + new + text[to:]
            end += len(new) - (to - at)
        return text[start:end].replace("\r\n", "\n").replace("\r", "\n")

    def _edits(self, module: PythonModule, number: int) -> Mapping[tuple[int, int], str]:
        """Return the new texts of places in a statement."""
        source = module.source
        edits: dict[tuple[int, int], str] = {}

        def place(node: ast.expr | ast.stmt) -> tuple[int, int]:
            line, last, column, end = span_of(node)
            return source.offset(line, column), source.offset(last, end)

        for annotation, text in module.annotations_of(number):
            edits[place(annotation)] = text
        quoted = list(edits)
        for node, target in self.shaker.all_references(module, number):
            at = place(node)
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                edits[at] = self._inner_import(module, node)
            elif not any(start <= at[0] and at[1] <= end for start, end in quoted):
                edits[at] = self._names[target]
        for local, flat in self._bindings(module, number):
            edits[place(local)] = flat
        edits |= self._renamed_definition(module, number)
        return edits

    def _inner_import(self, module: PythonModule, node: ast.Import | ast.ImportFrom) -> str:
        """Return what takes the place of an import in a function."""
        lines = []
        for one in module.imports_of(node):
            target = self.shaker.of_import(one)
            if isinstance(target, Defined):
                name = self._names[target]
                lines += [f"{one.local} = {name}"] if name != one.local else []
            else:
                lines.append(one.statement(one.local))
        return "; ".join(lines) or "pass"

    def _bindings(self, module: PythonModule, number: int) -> list[tuple[ast.Name, str]]:
        """Return the names that a statement assigns to at the top, with their new ones."""
        top = module.statements[number]
        if isinstance(top, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return []
        stored = (n for n in ast.walk(top) if isinstance(n, ast.Name))
        stored = (n for n in stored if not isinstance(n.ctx, ast.Load))
        found = ((n, self._names.get(Defined(module.name, n.id), n.id)) for n in stored)
        return [(node, flat) for node, flat in found if flat != node.id]

    def _renamed_definition(self, module: PythonModule, number: int) -> dict[tuple[int, int], str]:
        """Return the new name in the first line of a function or class."""
        top = module.statements[number]
        if not isinstance(top, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return {}
        flat = self._names[Defined(module.name, top.name)]
        if flat == top.name:
            return {}
        at = module.source.offset(top.lineno, top.col_offset)
        start = module.source.text.index(top.name, at + len("def"))
        return {(start, start + len(top.name)): flat}


def _last(target: Target) -> str:
    return target.name if isinstance(target, Defined) else ""

"""Take the statements that some names need out of several modules, in an order that runs."""

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modswap.core.asked.scripts.needed import changed_name, is_plain, literals_of
from modswap.core.errors import UsageError
from modswap.ops.code.building.source import SourceFile, is_ours, is_own
from modswap.ops.code.standalone.module import Imported, PythonModule

# kernels that need a compiler of their own; code that asks whether they suit goes the other way
LEFT_OUT = (
    "modswap.nn.routed_attention.gpu",
    "modswap.nn.gpu.routed.layer",
    "modswap.nn.gpu.mixed.layer",
)
OPERATORS = ('"modswap::', '"modswap_standalone::')  # torch knows each operator's name once


@dataclass(frozen=True, slots=True)
class Defined:
    """A name that statements of an inlined module bind."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Inlined:
    """An inlined module itself."""

    module: str


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Target = Defined | Imported | Inlined


class Shaker:
    """Follows names through the user's modules and modswap's; others stay imports.

    Args:
        texts: The new bytes of changed files.
    """

    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self.texts = {str(Path(file).resolve()): data for file, data in texts.items()}
        self.taken: dict[tuple[str, int], None] = {}  # module and statement, in an order that runs
        self.imports: dict[Imported, None] = {}
        self.left_out: set[str] = set()
        self._begun: set[tuple[str, int]] = set()
        self._modules: dict[str, PythonModule | None] = {}

    def module(self, name: str) -> PythonModule | None:
        """Return an inlined module; None for one that stays an import."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> PythonModule | None:
        file = _file_of(name)
        if not file or not (is_ours(file) or is_own(file)):
            return None
        place = str(Path(file).resolve())
        data = self.texts.get(place)
        source = SourceFile(file, Path(file).read_bytes() if data is None else data)
        package = Path(file).name == "__init__.py"
        module = PythonModule(name, source, package=package)
        if is_ours(file):
            source = self._without_kernels(module)
            module = PythonModule(name, source, package=package)
        return module

    def _without_kernels(self, module: PythonModule) -> SourceFile:
        """Return the source without the branches for kernels that are left out."""
        source, text = module.source, module.source.text.replace(*OPERATORS)
        known = {one.local for one in module.imported.values() if _full(one) in LEFT_OUT}
        choices = [n for n in ast.walk(source.tree) if isinstance(n, ast.IfExp)]
        for node in choices:
            if known & {one.id for one in ast.walk(node.test) if isinstance(one, ast.Name)}:
                text = text.replace(source.segment(node), source.segment(node.orelse))
                self.left_out.add("Triton's kernels for GPUs")
        return SourceFile(source.file, text.encode(source.encoding))

    def want(self, module: str, name: str) -> Target:
        """Take what a name of a module needs; return where the name comes from.

        Raises:
            UsageError: If the module has no such name, or it is made by more than a definition.
        """
        target = self.target(module, name)
        if target is None:
            what = f"{module} has no {name} that can be copied"
            raise UsageError(what, "--standalone", "define it at the top of its module")
        self.take(target)
        return target

    def target(self, module: str, name: str) -> Target | None:
        """Return where a name of an inlined module comes from; None for builtins."""
        inlined = self.module(module)
        if inlined is None:
            return Imported(module, name, name)
        found = inlined.imported.get(name)
        if found is not None and all(
            isinstance(inlined.statements[n], (ast.Import, ast.ImportFrom))
            for n in inlined.bound[name]
        ):
            return self.of_import(found)
        if name in inlined.bound:
            return Defined(module, name)
        if self.module(f"{module}.{name}") is not None:
            return Inlined(f"{module}.{name}")
        return None

    def of_import(self, found: Imported) -> Target | None:
        """Return where an imported name comes from."""
        if not found.member:
            whole = found.module if found.local != found.module.split(".")[0] else found.local
            return Inlined(whole) if self.module(whole) is not None else found
        if self.module(_full(found)) is not None:
            return Inlined(_full(found))
        if self.module(found.module) is not None:
            return self.target(found.module, found.member)
        return found

    def take(self, target: Target) -> None:
        """Take the statements of a target, those that they need before them."""
        if isinstance(target, Imported):
            self.imports[target] = None
        elif isinstance(target, Defined):
            module = self.module(target.module)
            assert module is not None  # noqa: S101 - as `target` says
            numbers = module.bound[target.name]
            if not any(is_plain(module.statements[number]) for number in numbers):
                line = module.statements[numbers[0]].lineno
                what = f"{target.name} is made by line {line}, which does more than define it"
                raise UsageError(what, module.source.file, "move it into a function")
            for number in numbers:
                self._statement(module, number)

    def _statement(self, module: PythonModule, number: int, *, called: bool = False) -> None:
        """Take a statement: before it what it reads at once, behind it what its functions read."""
        key = (module.name, number)
        if key in self._begun or not (called or is_plain(module.statements[number])):
            return
        self._begun.add(key)
        for _, target in self.references(module, number, now=True):
            self.take(target)
        self.taken[key] = None
        for _, target in self.references(module, number, now=False):
            self.take(target)
        for later in registrations(module, number):
            self._statement(module, later, called=True)

    def references(
        self, module: PythonModule, number: int, *, now: bool
    ) -> Iterator[tuple[ast.expr | ast.stmt, Target]]:
        """Yield the expressions and inner imports of a statement, with where they come from.

        These are the ones that its execution reads `now`, or those that its functions read later.

        Raises:
            UsageError: If an inlined module is used by itself, and not for a name in it.
        """
        for name in module.globals_of(number, now=now):
            found = self.target(module.name, name.id)
            node: ast.expr = name
            while isinstance(found, Inlined):
                above = module.source.parents[node]
                if not isinstance(above, ast.Attribute):
                    what = f"line {name.lineno} uses the module {found.module} by itself"
                    raise UsageError(what, module.source.file, "import the names that it uses")
                node, found = above, self.target(found.module, above.attr)
            if found is not None:
                yield node, found
        if not now:
            yield from self._inner_imports(module, number)

    def all_references(
        self, module: PythonModule, number: int
    ) -> list[tuple[ast.expr | ast.stmt, Target]]:
        """Return the references of a statement, of both kinds."""
        parts = (self.references(module, number, now=now) for now in (True, False))
        return [one for part in parts for one in part]

    def _inner_imports(
        self, module: PythonModule, number: int
    ) -> Iterator[tuple[ast.stmt, Target]]:
        top = module.statements[number]
        for node in ast.walk(top):
            if node is top or not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            for one in module.imports_of(node):
                found = self.of_import(one)
                if isinstance(found, Inlined):
                    what = f"line {node.lineno} imports the module {found.module} in a function"
                    raise UsageError(what, module.source.file, "import it at the top")
                if isinstance(found, Defined):
                    yield node, found


def registrations(module: PythonModule, number: int) -> Iterator[int]:
    """Yield the statements that change what a statement has made, or register something with it."""
    node = module.statements[number]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return
    names = {name for name, numbers in module.bound.items() if number in numbers}
    filled = names & literals_of(module.source.tree)
    defined = names if isinstance(node, _DEFINITIONS) else set()
    for later, other in enumerate(module.statements):
        if later != number and (_root(other) & defined or changed_name(other) in filled):
            yield later


def _root(node: ast.stmt) -> set[str]:
    """Return the names whose methods a statement calls by itself, or as a decorator."""
    called: list[ast.expr] = []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = [node.value]
    elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
        called = node.decorator_list
    found = set()
    for one in called:
        inner = one.func if isinstance(one, ast.Call) else one
        if not isinstance(inner, ast.Attribute):
            continue
        while isinstance(inner, ast.Attribute):
            inner = inner.value
        found |= {inner.id} if isinstance(inner, ast.Name) else set()
    return found


def _full(one: Imported) -> str:
    return f"{one.module}.{one.member}" if one.member else one.module


def _file_of(name: str) -> str:
    """Return the file of a module, of those that are there; empty for none."""
    known = sys.modules.get(name)
    if known is not None:
        return getattr(known, "__file__", None) or ""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return ""
    return (spec.origin or "") if spec is not None and spec.has_location else ""

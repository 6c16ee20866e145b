"""SourceNames of classes in a source file: those that its imports give, and imports to add."""

import ast
import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from modswap.nn import __all__ as public
from modswap.ops.code.building.source import SourceFile
from modswap.ops.code.building.wanted import NewModule

CATALOGUE_MODULE = "modswap.nn"


class SourceNames:
    """The names of a source file, and the imports that new code in it needs."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.added: dict[str, None] = {}  # statements, in the order of need

    def of(self, new: NewModule) -> str:
        """Return how the file names the class of a new module."""
        cls, reference = new.cls, new.blueprint.module
        file = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
        if file and os.path.realpath(file) == os.path.realpath(self.source.file):
            return cls.__qualname__
        if ":" not in reference:
            inside = cls.__module__.startswith(f"{CATALOGUE_MODULE}.") and cls.__name__ in public
            return self.name(CATALOGUE_MODULE if inside else cls.__module__, cls.__name__)
        module, _, name = reference.rpartition(":")
        return self.name(Path(module).stem if module.endswith(".py") else module, name)

    def name(self, module: str, name: str) -> str:
        """Return how the file names something of a module; an import is added if none gives it."""
        first, *inner = name.split(".")
        known = self._imported.get(f"{module}.{first}")
        if known is None and module in self._imported:
            known = f"{self._imported[module]}.{first}"
        if known is None:
            taken = first in self.source.bound or first in self._imported.values()
            known = f"Modswap{first}" if taken else first
            alias = f" as {known}" if taken else ""
            self.added[f"from {module} import {first}{alias}"] = None
        return ".".join((known, *inner))

    @cached_property
    def _imported(self) -> Mapping[str, str]:
        """Return the file's name for each module or member that its own imports give."""
        found: dict[str, str] = {}
        for node in self.source.tree.body:
            if isinstance(node, ast.Import):
                found |= _of_import(node)
            elif isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                found |= {f"{module}.{one.name}": one.asname or one.name for one in node.names}
        free = {text: name for text, name in found.items() if name not in self.source.bound}
        # a submodule that another import has bound is there by its dotted name as well
        return {"torch.nn": "torch.nn", **free} if "torch" in free else free

    def _absolute(self, node: ast.ImportFrom) -> str:
        """Return the module of a `from` import; of a relative one by the folders around."""
        if not node.level:
            return node.module or ""
        package: list[str] = []
        folder = Path(self.source.file).parent
        while (folder / "__init__.py").is_file():
            package.insert(0, folder.name)
            folder = folder.parent
        above = package[: len(package) - node.level + 1]
        return ".".join((*above, *([node.module] if node.module else [])))


def _of_import(node: ast.Import) -> dict[str, str]:
    """Return the names that an import gives; `import a.b` binds `a`, which has `b`."""
    found = {one.name: one.asname or one.name for one in node.names}
    for one in node.names:
        parts = one.name.split(".") if one.asname is None else []
        found |= {name: name for name in (".".join(parts[:n]) for n in range(1, len(parts)))}
    return found

"""Find the calls in the user's source whose products are all swapped, and what is left."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from modswap.ops.apply import module_at
from modswap.ops.code.building.record import CallPlace, MakingCall, Recording
from modswap.ops.code.building.source import SourceFile, Sources, Span, span_of
from modswap.ops.code.building.wanted import NewModule

MAX_FILES = 2000  # of a package that are searched for other users of a function


@dataclass(frozen=True, slots=True)
class Use:
    """A site whose module a call makes; `path` is its first one."""

    new: NewModule
    path: str
    call: MakingCall


@dataclass(frozen=True, slots=True)
class Located:
    """The calls to replace, with the sites that each makes, and the sites of no such call."""

    calls: Mapping[CallPlace, tuple[Use, ...]]
    rest: tuple[NewModule, ...]


class Locator:
    """Looks for the calls that make the sites of new modules."""

    def __init__(
        self,
        recording: Recording,
        sources: Sources,
        wanted: Sequence[NewModule],
        roots: Sequence[str],
    ) -> None:
        self.recording = recording
        self.sources = sources
        self.wanted = wanted
        self.roots = roots  # functions and classes of the user's model itself

    @cached_property
    def made_by(self) -> Mapping[CallPlace, set[int]]:
        """Return the modules of the model that each call led to."""
        found: dict[CallPlace, set[int]] = {}
        for module in self.recording.model.modules():
            for call in self.recording.of(module):
                found.setdefault(call.place, set()).add(id(module))
        return found

    @cached_property
    def sites(self) -> Mapping[int, tuple[NewModule, str]]:
        """Return the old modules that new ones replace, each with its first path."""
        found: dict[int, tuple[NewModule, str]] = {}
        for new in self.wanted:
            for path in () if new.beside else new.paths:
                found.setdefault(id(module_at(self.recording.model, path)), (new, path))
        return found

    @cached_property
    def inside(self) -> set[int]:
        """Return the old modules that go, with all modules in them."""
        model = self.recording.model
        paths = [path for _, path in self.sites.values()]
        return {id(inner) for path in paths for inner in module_at(model, path).modules()}

    def located(self) -> Located:
        """Return the calls to replace."""
        found: dict[CallPlace, list[Use]] = {}
        rest = [new for new in self.wanted if new.beside]
        for new in self.wanted:
            uses = self._uses(new)
            if not uses and new not in rest:
                rest.append(new)
            for use in uses:
                found.setdefault(use.call.place, []).append(use)
        while torn := [place for place, uses in found.items() if self._is_torn(uses, rest)]:
            for place in torn:
                rest += [use.new for use in found.pop(place) if use.new not in rest]
        return Located({place: tuple(uses) for place, uses in found.items()}, tuple(rest))

    def _uses(self, new: NewModule) -> list[Use]:
        """Return the calls that make the sites of a new module; none if one has no such call."""
        members = [(i, path) for i, (one, path) in self.sites.items() if one is new]
        calls = [(path, self._call(i)) for i, path in members]
        uses = [Use(new, path, call) for path, call in calls if call is not None]
        if len(uses) < len(members):
            return []
        return uses if len(uses) < 2 or _in_order(uses) else []

    def _is_torn(self, uses: Sequence[Use], rest: Sequence[NewModule]) -> bool:
        """Return whether a call makes a site of `rest` too, or needs another text at each turn."""
        left = {id(new) for new in rest}
        members = {i for i, (new, _) in self.sites.items() if id(new) in left}
        reached = self.made_by[uses[0].call.place] & members
        return bool(reached) or any(id(use.new) in left for use in uses) or not _spellable(uses)

    def _call(self, module: int) -> MakingCall | None:
        """Return the outermost call that gives a site's module, if it makes only such sites."""
        best: MakingCall | None = None
        for call in self.recording.calls.get(module, ()):
            source = self.sources.of(call.place.file)
            if source is None or call.node is None:
                break
            if self._all_swapped(call):
                best = call
            returned = isinstance(source.parents[call.node], (ast.Return, ast.Lambda))
            if call.in_constructor or not returned:
                break
        return best

    def _all_swapped(self, call: MakingCall) -> bool:
        """Return whether every module that a call leads to goes, and those that come are alike."""
        made = self.made_by.get(call.place, set())
        if not call.fixed or not made or not made <= self.inside:
            return False
        new = [self.sites[one][0] for one in made if one in self.sites]
        if any(one.kind != new[0].kind for one in new):
            return False
        return not self.used_elsewhere(call.place.file, call.place.function)

    def used_elsewhere(self, file: str, function: str) -> bool:
        """Return whether other code than this model's uses the function or class around a call.

        That code may use it by another function, which this model uses as well.
        """
        known: set[tuple[str, str]] = set()
        waiting = [(file, function.split(".")[0])]
        while waiting:
            place = waiting.pop()
            if place in known or place[1] in {*self.roots, "<module>"}:
                continue
            known.add(place)
            for source in self.around(*place):
                for node in _uses(source, place[1], own=source.file != place[0]):
                    if not self._ran(source, node):
                        return True
                    waiting.append((source.file, source.outermost(node)))
        return False

    def _ran(self, source: SourceFile, node: ast.AST) -> bool:
        """Return whether a node is a call that made modules of this model."""
        return isinstance(node, ast.Call) and (source.file, span_of(node)) in self._places

    @cached_property
    def _places(self) -> set[tuple[str, Span]]:
        return {(place.file, place.span) for place in self.made_by}

    def around(self, file: str, name: str) -> Iterator[SourceFile]:
        """Yield the files of a file's package, or of its folder, that hold a name."""
        folder = Path(file).parent
        package = folder
        while (package / "__init__.py").is_file():
            package = package.parent
        files = sorted(folder.glob("*.py")) if package == folder else _files_of(package, folder)
        word = re.compile(rf"\b{re.escape(name)}\b")
        for one in files[:MAX_FILES]:
            source = self.sources.of(str(one))
            if source is not None and word.search(source.text):
                yield source


def _files_of(above: Path, folder: Path) -> list[Path]:
    """Return the files of the outermost package around a folder, which is in the folder `above`."""
    top = above / folder.relative_to(above).parts[0]
    return sorted(top.rglob("*.py"))


def _uses(source: SourceFile, name: str, *, own: bool) -> Iterator[ast.AST]:
    """Yield each use of a name outside of its own definition: the call, else the name.

    With `own`, a file that defines the name itself means its own by it.
    """
    hidden = own and name in source.defined
    for node in ast.walk(source.tree):
        if hidden and isinstance(node, ast.Name):
            continue
        if not _names(node, name) or _is_inside(source, node, name) or _is_listed(source, node):
            continue
        above = source.parents[node]
        yield above if isinstance(above, ast.Call) and above.func is node else node


def _names(node: ast.AST, name: str) -> bool:
    """Return whether a node reads a name, is its text, or imports it under another one."""
    if isinstance(node, ast.ImportFrom):
        return any(one.name == name and one.asname not in {None, name} for one in node.names)
    if isinstance(node, ast.Attribute):
        return node.attr == name
    if isinstance(node, ast.Constant):  # as `getattr` and registers take it
        return node.value == name
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def _is_inside(source: SourceFile, node: ast.AST, name: str) -> bool:
    while node in source.parents:
        node = source.parents[node]
        if getattr(node, "name", "") == name:
            return True
    return False


def _is_listed(source: SourceFile, node: ast.AST) -> bool:
    """Return whether a node is in the list of a file's public names."""
    while node in source.parents:
        node = source.parents[node]
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return True
    return False


def _in_order(uses: Sequence[Use]) -> bool:
    """Return whether the first site of a shared module is made before the others, once each."""
    first, *others = (use.call for use in uses)
    counts = Counter(use.call.place for use in uses)
    if max(counts.values()) > 1 or not isinstance(first.owner, nn.Module):
        return False
    return all(
        call.owner is first.owner
        and call.place.function == first.place.function
        and call.place.span > first.place.span
        for call in others
    )


def _spellable(uses: Sequence[Use]) -> bool:
    """Return whether one text makes the modules of all turns of a call."""
    first = uses[0].new.blueprint.args
    for name, value in first.items():
        values = [use.new.blueprint.args.get(name) for use in uses]
        alike = all(type(one) is type(value) and one == value for one in values)
        if not alike and held_by(uses, name) is None:
            return False
    return all(use.new.blueprint.args.keys() == first.keys() for use in uses)


def held_by(uses: Sequence[Use], name: str) -> str | None:
    """Return the expression of a call that held an observed argument at every turn, or None."""
    if not all(name in use.new.observed for use in uses):
        return None
    for text in uses[0].call.values:
        held = [(use.call.values.get(text), use.new.blueprint.args[name]) for use in uses]
        if all(type(wanted) is int and value == wanted for value, wanted in held):
            return text
    return None

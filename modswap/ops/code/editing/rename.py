"""Give modules another name: in the source of the class that holds them, and in the model."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from modswap.core.errors import UsageError
from modswap.core.kept.code_change import FileChange
from modswap.ops.apply import parent_of
from modswap.ops.code.building.source import Function, SourceFile, file_of
from modswap.ops.code.building.wanted import NewModule
from modswap.ops.code.editing.locate import Locator

_BY_TEXT = ("getattr", "setattr", "hasattr", "delattr", "__getattr__", "__getattribute__", "vars")

_SENTENCE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class NewName:
    """A module's path, and the name that it gets in the module around it."""

    path: str
    name: str


def every_instance(model: nn.Module, names: Sequence[tuple[str, str]]) -> list[NewName]:
    """Return the names for all instances of the classes that hold the modules.

    Raises:
        MatchError: If there is no such module.
    """
    found: dict[NewName, None] = {}
    for path, name in names:
        parent, old = parent_of(model, path)
        alike = (n for n, m in model.named_modules() if type(m) is type(parent))
        found |= {NewName(f"{around}.{old}".lstrip("."), name): None for around in alike}
    return list(found)


def rename_modules(model: nn.Module, names: Sequence[NewName]) -> None:
    """Give modules of a model other names; their order stays.

    Raises:
        UsageError: If there is no such module, or another one has the name.
    """
    for one in names:
        parent, old = parent_of(model, one.path)
        there = dict(parent._modules)  # noqa: SLF001 - named_children leaves out a second name
        module = parent.get_submodule(old)
        other = getattr(parent, one.name, None)
        if other is not None and other is not module:
            what = f"two modules cannot have the name {one.name}"
            fix = "share one module by `share: true` in the rule"
            raise UsageError(what, one.path, fix)
        for name in there:
            delattr(parent, name)
        for name, child in there.items():
            parent.add_module(one.name if name == old else name, child)


def renamed_path(path: str, names: Sequence[NewName]) -> str:
    """Return a path after modules got other names."""
    for one in names:
        around = one.path.rpartition(".")[0]
        new = f"{around}.{one.name}".lstrip(".")
        if path == one.path or path.startswith(f"{one.path}."):
            return new + path.removeprefix(one.path)
    return path


def renamed_module(new: NewModule, names: Sequence[NewName]) -> NewModule:
    """Return a new module with the paths that it has after the change of names."""
    paths = dict.fromkeys(renamed_path(path, names) for path in new.paths)
    beside = dict.fromkeys(renamed_path(path, names) for path in new.beside)
    return replace(new, paths=tuple(paths), beside=tuple(beside))


def renamed_source(
    locator: Locator, files: Sequence[FileChange], names: Sequence[NewName]
) -> tuple[FileChange, ...]:
    """Return the changed files with other names in the classes that hold the modules.

    Raises:
        UsageError: If a name is also used in a text, by `getattr`, or through another object.
    """
    changed = {one.file: one for one in files}
    model = locator.recording.model
    for one in names:
        parent, old = parent_of(model, one.path)
        cls = type(parent)
        source = locator.sources.of(file_of(cls))
        if source is None or cls.__qualname__ not in source.classes:
            what = f"{cls.__name__}, which holds it, has no source of your own"
            raise UsageError(what, one.path, "leave --rename out")
        for other in locator.around(source.file, old):
            refuse_other_uses(other, old, cls.__qualname__, own=other is source)
        before = changed.get(source.file)
        data = source.data if before is None else before.after
        text = _renamed(SourceFile(source.file, data), cls.__qualname__, old, one.name)
        after = text.encode(source.encoding)
        changed[source.file] = FileChange(source.file, source.data, after, source.encoding)
    return tuple(changed.values())


def refuse_other_uses(source: SourceFile, name: str, cls: str, *, own: bool) -> None:
    """Refuse a name that is used otherwise than as an attribute of a class's own instances.

    `own` says whether the class is in this file. Classes of other kinds may have such an attribute.

    Raises:
        UsageError: At the first such use.
    """
    holders = [cls] if own else _others_with(source, cls, name)
    passed = {id(node) for one in holders for node in _own_attributes(source, one, name)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr == name and id(node) not in passed:
            raise _used(source, node, f"uses .{name} of another object")
        if isinstance(node, ast.Constant) and _says(source, node, name, own=own):
            raise _used(source, node, f"has {name!r} in a text")
    for inner in ast.walk(source.classes[cls]) if own else ():
        called = inner.id if isinstance(inner, ast.Name) else getattr(inner, "name", "")
        if called in _BY_TEXT:
            raise _used(source, inner, f"reaches attributes by {called}")


def _says(source: SourceFile, node: ast.Constant, name: str, *, own: bool) -> bool:
    """Return whether a text other than a docstring holds a name.

    In another file than the class's own, a sentence is no path of a module.
    """
    if not isinstance(node.value, str) or isinstance(source.parents[node], ast.Expr):
        return False
    if not own and _SENTENCE.search(node.value.strip()):
        return False
    return re.search(rf"\b{re.escape(name)}\b", node.value) is not None


def _others_with(source: SourceFile, cls: str, name: str) -> list[str]:
    """Return the classes of a file that set such an attribute and are not derived from a class."""
    found = []
    for other, node in source.classes.items():
        bases = {word for base in node.bases for word in re.findall(r"\w+", ast.unparse(base))}
        stored = (one.ctx for one in _own_attributes(source, other, name))
        if cls not in bases and any(isinstance(context, ast.Store) for context in stored):
            found.append(other)
    return found


def _used(source: SourceFile, node: ast.AST, what: str) -> UsageError:
    where = f"{source.file}:{getattr(node, 'lineno', 1)}"
    return UsageError(f"it {what}", where, "rename it by hand, or leave it")


def _own_attributes(source: SourceFile, cls: str, name: str) -> list[ast.Attribute]:
    """Return the uses of an attribute through the first argument of a class's methods."""
    found: list[ast.Attribute] = []
    for method in source.classes[cls].body:
        if not isinstance(method, Function) or not method.args.args:
            continue
        this = method.args.args[0].arg
        found += [
            node
            for node in ast.walk(method)
            if isinstance(node, ast.Attribute)
            and node.attr == name
            and isinstance(node.value, ast.Name)
            and node.value.id == this
        ]
    return found


def _renamed(source: SourceFile, cls: str, old: str, new: str) -> str:
    """Return a file's text with another attribute's name; `self.x = self.x` goes."""
    nodes = _own_attributes(source, cls, old)
    text = source.text
    for node in sorted(nodes, key=lambda one: (one.end_lineno, one.end_col_offset), reverse=True):
        end = source.offset(node.end_lineno or 0, node.end_col_offset or 0)
        text = f"{text[: end - len(old)]}{new}{text[end:]}"
    changed = SourceFile(source.file, text.encode(source.encoding))
    idle = [n for n in ast.walk(changed.tree) if isinstance(n, ast.Assign) and _is_idle(n)]
    for one in sorted(idle, key=lambda found: found.lineno, reverse=True):
        start = changed.starts[one.lineno - 1]
        text = text[:start] + text[changed.starts[one.end_lineno or one.lineno] :]
    return text


def _is_idle(node: ast.Assign) -> bool:
    target = ast.unparse(node.targets[0])
    return len(node.targets) == 1 and "." in target and target == ast.unparse(node.value)

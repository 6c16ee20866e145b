"""Name the modules around an operation that a pattern takes for a module, and its inputs."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from modswap.core.errors import MatchError
from modswap.live_values import live_tensors

_NO_MODULE = re.compile(r"no module matches '[\w.]*?(\w{3,})'")
MAX_SHOWN = 4  # modules that an error names


@dataclass(slots=True)
class _Edge:
    """The output of a module: its path, and the modules and operations that read it."""

    producer: str
    # the path of a module, and the operation in its forward; empty where the module itself reads
    readers: dict[tuple[str, str], None] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Return what a module behind it would change; readers inside the producer are left out."""
        own = f"{self.producer}."
        outside = [one for one in self.readers if not f"{one[0]}.".startswith(own)]
        named = [f"`{name}` in {path}" if path else f"`{name}`" for path, name in outside if name]
        modules = [path for path, name in outside if not name]
        readers = _listed([*modules, *named])
        return f"`after: {self.producer}` changes it for all that read it: {readers}"


@dataclass(frozen=True, slots=True)
class _Given:
    """A module that runs, with the tensors that it was given and how often these were changed."""

    path: str
    tensors: list[torch.Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)

    def holds(self, tensor: torch.Tensor) -> bool:
        return any(tensor is one for one in self.tensors)

    def changed(self, tensor: torch.Tensor) -> bool:
        pairs = zip(self.tensors, self.versions, strict=True)
        return any(tensor is one and one._version != version for one, version in pairs)  # noqa: SLF001 - torch has no public name


class _Operations(TorchFunctionMode):
    """The operations of a pass, and the paths of the modules in whose forward they ran."""

    def __init__(self) -> None:
        super().__init__()
        # the modules that run, each with the tensors that it was given
        self.running: list[_Given] = [_Given("")]
        self.seen: dict[str, dict[str, dict[int, _Edge]]] = {}
        self.edges: Any = WeakTensorKeyDictionary()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name, path = getattr(func, "__name__", ""), self.running[-1].path
        edges = self.seen.setdefault(name, {}).setdefault(path, {})
        for tensor in live_tensors([args, dict(kwargs or {})]) if live_tensors(output) else ():
            edge = self._read(tensor, path, name)
            if edge is not None:
                edges[id(edge)] = edge
        return output

    def enter(self, path: str, given: Any) -> None:
        """Note that a module begins, and which outputs of others it reads."""
        tensors = live_tensors(given)
        for tensor in tensors:
            self._read(tensor, path)
        versions = [tensor._version for tensor in tensors]  # noqa: SLF001 - torch has no public name
        self.running.append(_Given(path, tensors, versions))

    def leave(self, path: str, output: Any) -> None:
        """Note that a module ends, and its output, if that is a tensor of its own."""
        given = self.running.pop()
        if isinstance(output, torch.Tensor) and not given.holds(output):
            # the outermost module that gives a tensor has the last word
            edge = self.edges.setdefault(output, _Edge(path))
            edge.producer = path
        elif isinstance(output, torch.Tensor) and given.changed(output):
            self.edges[output] = _Edge(path)  # from here on it holds other values

    def _read(self, tensor: torch.Tensor, path: str, operation: str = "") -> _Edge | None:
        """Note who reads an output, unless a module around was given it; return its edge."""
        edge: _Edge | None = self.edges.get(tensor)
        inside = any(given.holds(tensor) for given in self.running)
        if edge is not None and not inside:
            edge.readers[path, operation] = None
        return edge


def with_operations(error: MatchError, model: nn.Module, run: Callable[[], object]) -> MatchError:
    """Return an error about a pattern that matches no module, with the operation that it names.

    `run` runs the model once, to see the operations.
    """
    wanted = _NO_MODULE.fullmatch(error.what)
    if wanted is None:
        return error
    operations = _Operations()
    with _followed(model, operations), operations:
        run()
    name = wanted[1].lower()
    for operation, paths in operations.seen.items():
        # only a name in full, or the one that everybody uses
        if name == operation or (name == "attention" and name in operation):
            made = MatchError(error.what, error.where, _advice(operation, paths), error.more)
            made.rule = error.rule
            return made
    return error


def _advice(operation: str, paths: Mapping[str, Mapping[int, _Edge]]) -> str:
    """Return where an operation runs, and what a module behind its inputs would change instead."""
    said = f"`{operation}` is an operation and no module"
    inside = [path for path in paths if path]
    around = f"name the module around it: {_listed(inside)}"
    said += f": {around}" if inside else ", in the model's own forward"
    edges = {id(edge): edge for found in paths.values() for edge in found.values()}
    lines = list(dict.fromkeys(edge.text for edge in edges.values()))
    return "; ".join([said, *lines[:MAX_SHOWN], *(["…"] if len(lines) > MAX_SHOWN else [])])


def _listed(names: list[str]) -> str:
    return ", ".join(names[:MAX_SHOWN]) + (", …" if len(names) > MAX_SHOWN else "")


@contextmanager
def _followed(model: nn.Module, operations: _Operations) -> Iterator[None]:
    """Follow which module runs, for the time of a block."""
    handles = []
    for path, module in model.named_modules():
        if not path:
            continue

        def enter(_: object, args: Any, kwargs: Any, path: str = path) -> None:
            operations.enter(path, [args, kwargs])

        def leave(_: object, __: object, output: Any, path: str = path) -> None:
            operations.leave(path, output)

        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

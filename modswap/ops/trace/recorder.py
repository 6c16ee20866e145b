"""Record every module's calls during a forward pass, by hooks."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from modswap.core.decided.verdict import Visit
from modswap.core.seen.layout import Clue
from modswap.core.seen.site import Call, Grid
from modswap.live_values import describe, live_tensors
from modswap.ops.trace.axes import AxesMode
from modswap.ops.trace.layer_layouts import convention


@dataclass
class _Running:
    """A module that is running."""

    path: str
    first: torch.Tensor | None  # among its inputs
    around: tuple[str, ...]  # paths of the modules around it
    takes: tuple[str, ...] = ()  # paths of the modules that made its inputs

    @cached_property
    def inside(self) -> tuple[str, ...]:
        """Return the paths around the modules inside, which share the tuple."""
        return (*self.around, self.path)


class Recorder:
    """Hooks on every module, for the time of one pass.

    Args:
        paths: The first path of every module.
        device: The device to record for all tensors of a pass on the meta device, where memory
            layouts are not known; empty to record each tensor's own.
        axes: The mode that follows the maps in the pass; None to record no grids.
    """

    def __init__(
        self, paths: Mapping[nn.Module, str], device: str, axes: AxesMode | None = None
    ) -> None:
        self.paths = paths
        self.device = device
        self.axes = axes
        self.entered = False  # whether the model itself was called
        self.visits: list[Visit] = []
        self.clues: list[Clue] = []
        self.same_tensor: dict[str, list[Clue]] = {}
        self._running: list[_Running] = []
        self._producers: list[tuple[torch.Tensor, Clue]] = []
        # the outermost module that has put out a tensor so far, by the tensor's identity; the
        # references keep no tensor, and show when an identity belongs to a later one
        self._makers: dict[int, tuple[weakref.ref[torch.Tensor], str]] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hook every module for the time of a block."""
        handles = []
        try:
            for module, path in self.paths.items():
                before: Callable[..., None] = partial(self._before, path)
                after: Callable[..., None] = partial(self._after, path)
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(module.register_forward_hook(after, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._producers.clear()
            self._makers.clear()

    def innermost(self) -> str:
        """Return the path of the innermost module that is running, or ran last."""
        return self._running[-1].path if self._running else ""

    def _before(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._start(path, [args, kwargs])
        given = live_tensors([args, kwargs])
        first = next(iter(given), None)
        around = self._running[-1].inside if self._running else ()
        self._running.append(_Running(path, first, around, tuple(self._made_by(given))))
        if first is not None:
            self._seek_clues(path, module, first)

    def _seek_clues(self, path: str, module: nn.Module, first: torch.Tensor) -> None:
        """Record a module of known layout, and such modules that took or gave its own input."""
        clue = self._clue(path, module, first)
        if clue is not None:
            self.clues.append(clue)
            for running in self._running:
                if running.first is first:
                    self.same_tensor.setdefault(running.path, []).append(clue)
        produced_by = next((clue for tensor, clue in self._producers if tensor is first), None)
        if produced_by is not None and clue is None:
            self.same_tensor.setdefault(path, []).append(produced_by)

    def _after(self, path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        around: tuple[str, ...] = ()
        takes: tuple[str, ...] = ()
        while self._running:
            ended = self._running.pop()
            around, takes = ended.around, ended.takes
            if ended.path == path:
                break  # others inside raised, and their caller caught the exception
        described = partial(describe, device=self.device)
        named = tuple((name, described(value)) for name, value in kwargs.items())
        given = live_tensors([*args, *kwargs.values()])
        inputs = [*((str(at), value) for at, value in enumerate(args)), *kwargs.items()]
        places = self._grids(inputs), self._windows(inputs)
        call = Call(tuple(map(described, args)), named, described(output), _same(given), *places)
        layout = "" if self.device else memory_layout(output)
        self.visits.append(Visit(path, call, around, layout, takes))
        for tensor in live_tensors(output):
            self._makers[id(tensor)] = weakref.ref(tensor), path
        if isinstance(output, torch.Tensor):
            clue = self._clue(path, module, output)
            if clue is not None:
                # only the latest few: a tensor is mostly taken soon after it was made
                self._producers = [*self._producers[-7:], (output, clue)]

    def _made_by(self, given: Sequence[torch.Tensor]) -> Iterator[str]:
        """Yield the module that made each tensor, if one put out this very tensor."""
        for tensor in given:
            reference, path = self._makers.get(id(tensor), (None, ""))
            if reference is not None and reference() is tensor:
                yield path

    def _start(self, path: str, given: Any) -> None:
        """Note that the model itself is entered; take the images that it is given as maps."""
        self.entered = self.entered or not path
        if not path and self.axes is not None:
            self.axes.start(given)

    def _grids(self, named: Sequence[tuple[str, Any]]) -> tuple[tuple[str, Grid], ...]:
        """Return the grids of the inputs that are tokens of a map, by the names of the inputs."""
        if self.axes is None:
            return ()
        tensors = ((name, value) for name, value in named if isinstance(value, torch.Tensor))
        found = ((name, self.axes.grid(tensor)) for name, tensor in tensors)
        return tuple((name, grid) for name, grid in found if grid is not None)

    def _windows(self, named: Sequence[tuple[str, Any]]) -> tuple[str, ...]:
        """Return the names of the inputs that hold windows of a map."""
        if self.axes is None:
            return ()
        tensors = ((name, value) for name, value in named if isinstance(value, torch.Tensor))
        return tuple(name for name, tensor in tensors if self.axes.holds_windows(tensor))

    @staticmethod
    def _clue(path: str, module: nn.Module, tensor: torch.Tensor) -> Clue | None:
        layout = convention(module, tensor.ndim)
        if layout is None:
            return None
        return Clue(path, type(module).__name__, layout, tuple(tensor.shape))


def _same(given: list[torch.Tensor]) -> tuple[int, ...]:
    """Return for each tensor the index of the first that is the same; empty if all differ."""
    seen: dict[int, int] = {}
    firsts = tuple(seen.setdefault(id(tensor), index) for index, tensor in enumerate(given))
    return firsts if len(seen) < len(given) else ()


def memory_layout(output: Any) -> str:
    """Return the memory layout of a map; empty for other values and for maps of both layouts."""
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        return ""
    last = output.is_contiguous(memory_format=torch.channels_last)
    if output.is_contiguous():
        return "" if last else "contiguous"
    return "channels_last" if last else "other"

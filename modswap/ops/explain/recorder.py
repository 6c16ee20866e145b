"""Follow a forward pass by the line events of Python: where it is, and what each line sets."""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from modswap.ops.explain.source import FunctionSource, source_of
from modswap.ops.explain.values import Described, described, named, not_finite

_TORCH = os.path.dirname(torch.__file__) + os.sep  # noqa: PTH120 - compared as text, often
_PYTHON = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - compared as text, often
_PACKAGES = (f"site-packages{os.sep}", f"dist-packages{os.sep}")
_OF_TORCH = tuple(
    _TORCH + part.replace("/", os.sep) for part in ("nn/modules/", "nn/functional.py")
)
_MODULE = os.path.join(_TORCH, "nn", "modules", "module.py")  # noqa: PTH118 - as above
# what runs the passes, and may be called back by torch in them
_OWN = tuple(str(Path(__file__).parents[1] / part) + os.sep for part in ("explain", "run"))
_EINSUM = torch.functional.einsum.__code__
_clock = time.perf_counter


class LineRecord:
    """A statement of a function, as one line called that."""

    __slots__ = ("beyond", "count", "einsum", "flops", "makes", "marks", "nbytes", "scenes",
                 "seconds", "values")  # fmt: skip

    def __init__(self) -> None:
        self.count = self.flops = self.beyond = self.nbytes = 0
        self.seconds = 0.0
        self.makes = False  # whether an operator made memory that is not filled
        # by name: its different values, and how often it had each
        self.values: defaultdict[str, dict[Described, int]] = defaultdict(dict)
        self.marks: set[str] = set()
        self.einsum: tuple[str, list[torch.Size]] | None = None
        self.scenes: dict[CodeType, Scene] = {}


class Scene:
    """A function, as one line called it: all calls from there together."""

    __slots__ = ("code", "count", "modules", "source", "spots")

    def __init__(self, code: CodeType, source: FunctionSource) -> None:
        self.code, self.source = code, source
        self.count = 0
        self.spots: defaultdict[int, LineRecord] = defaultdict(
            LineRecord
        )  # by number of the statement
        self.modules: dict[int, nn.Module] = {}  # whose method it is, by identity


@lru_cache(maxsize=4096)
def _shown(name: str, code: CodeType) -> bool:
    """Return whether a function is followed; the work of any other belongs to the line around."""
    if name.startswith(_TORCH):  # of torch only its layers are worth a reader's while
        hidden = name == _MODULE or code.co_name.startswith("__")  # `__iter__` of a container
        return name.startswith(_OF_TORCH) and not hidden and source_of(code) is not None
    if name.startswith(_OWN):
        return False
    if name.startswith(_PYTHON) and not any(part in name for part in _PACKAGES):
        return False
    return source_of(code) is not None


def at_once() -> None:
    """Wait for no device."""


class LineRecorder:
    """Follow the lines of one function and of all that it calls, on this thread.

    Each event costs time, which is measured and taken off the time of the lines.

    Args:
        root: The function.
        values: Whether to note the values that lines set.
        finite: Whether to look for NaN and infinity in them.
        wait: Waits until a device has finished the work of a line; the CPU has.
    """

    def __init__(
        self,
        root: CodeType,
        *,
        values: bool,
        finite: bool = False,
        wait: Callable[[], None] = at_once,
    ) -> None:
        self.root = root
        self.values = values
        self.finite = finite
        self.wait = wait
        self.top: Scene | None = None
        self.here: LineRecord | None = None
        self._lost = 0.0
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = sys.gettrace()  # of a debugger, or a measurement of coverage
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        began = _clock()
        code, local = frame.f_code, None
        if self.here is None:
            if code is self.root:
                local = self._entered(frame)
        elif code is _EINSUM and self.values:
            self._note_einsum(frame)
        elif _shown(code.co_filename, code):
            local = self._entered(frame)
        self._lost += _clock() - began
        return local

    def _note_einsum(self, frame: FrameType) -> None:
        equation, *operands = frame.f_locals["args"]
        if isinstance(equation, str) and self.here is not None:
            shapes = [one.shape for one in tree_leaves(operands) if isinstance(one, torch.Tensor)]
            self.here.einsum = equation, shapes

    def _scene(self, frame: FrameType) -> Scene:
        code = frame.f_code
        source = source_of(code) or FunctionSource((), {})
        if self.here is None:
            scene = self.top = self.top or Scene(code, source)
        else:
            known = self.here.scenes.get(code)
            scene = known or self.here.scenes.setdefault(code, Scene(code, source))
        scene.count += 1
        if self.values and code.co_varnames[:1] == ("self",):
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                scene.modules.setdefault(id(owner), owner)
        return scene

    def _entered(self, frame: FrameType) -> Callable[[FrameType, str, Any], Any]:
        """Return the function that Python calls for each line of a frame."""
        scene, outer = self._scene(frame), self.here
        (statements, owners), spots = scene.source, scene.spots
        number, since = -1, 0.0

        def followed(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal number, since
            self.wait()
            began = _clock()
            if event == "line":
                now = owners.get(frame.f_lineno, -1)
                if now not in {number, -1}:  # not another row of the same statement
                    if number >= 0:
                        self._left(scene, number, began - self._lost - since, frame)
                    spot = self.here = spots[now]
                    # not where a loop comes back to its head, which its body counts
                    spot.count += not now < number <= now + statements[now].inner
                    number, since = now, began - self._lost
            elif event == "return":
                if number >= 0:
                    self._left(scene, number, began - self._lost - since, frame)
                    if self.values and argument is not None:
                        self._note(spots[number], "", argument)
                self.here = outer
            self._lost += _clock() - began
            return followed

        return followed

    def _left(self, scene: Scene, number: int, seconds: float, frame: FrameType) -> None:
        """Note the end of a statement: its time, and the values that it set."""
        spot = scene.spots[number]
        spot.seconds += seconds
        if not self.values:
            return
        names = scene.source.statements[number].sets
        held: Mapping[str, Any] = frame.f_locals if names else {}
        for name in names:
            found, value = named(held, name)
            if found:
                self._note(spot, name, value)

    def _note(self, spot: LineRecord, name: str, value: Any) -> None:
        seen, words = spot.values[name], described(value)
        seen[words] = seen.get(words, 0) + 1
        if self.finite and not spot.makes:
            spot.marks |= not_finite(value)

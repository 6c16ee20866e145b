"""Record the calls in the user's source that make each module of a model."""

import ast
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from torch import nn

from modswap.ops.code.building.source import SourceFile, Sources, Span


@dataclass(frozen=True, slots=True)
class CallPlace:
    """A call in a source file."""

    file: str
    function: str  # qualified name of the function around it
    span: Span


@dataclass(frozen=True, slots=True)
class MakingCall:
    """A call that was running when a module was made."""

    place: CallPlace
    node: ast.Call | None  # None in files that are not the user's
    values: Mapping[str, Any]  # of the plain expressions among its arguments, at that moment
    owner: Any  # first argument of the function around it, None for none
    owner_name: str
    in_constructor: bool  # whether that function is a module's `__init__`
    fixed: bool = False  # whether its callee is a name of the file or a method; no argument or item


@dataclass(frozen=True, slots=True)
class Recording:
    """A model with the calls that made each of its modules, innermost first."""

    model: nn.Module
    calls: Mapping[int, tuple[MakingCall, ...]]  # by the module's id
    made: tuple[nn.Module, ...]  # all that were made, so that no id is used twice

    def of(self, module: nn.Module) -> tuple[MakingCall, ...]:
        """Return the calls that made a module; none for a copy."""
        return self.calls.get(id(module), ())


def record(build: Callable[[], nn.Module], sources: Sources) -> Recording:
    """Build a model and note, for each module, the calls that were running when it was made."""
    recorder = _Recorder(sources)
    before = sys.getprofile()
    sys.setprofile(recorder.note)
    try:
        model = build()
    finally:
        sys.setprofile(before if callable(before) else None)  # a profiler in C is no function
    return Recording(model, recorder.calls, tuple(recorder.made))


class _Recorder:
    """Notes the frames above each run of `nn.Module.__init__`."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.calls: dict[int, tuple[MakingCall, ...]] = {}
        self.made: list[nn.Module] = []
        self._places: dict[tuple[CodeType, int], CallPlace] = {}
        self._init = nn.Module.__init__.__code__
        self._record = record.__code__

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """Take an event of the interpreter's profile."""
        if event != "call" or frame.f_code is not self._init:
            return
        module = frame.f_locals["self"]
        calls = []
        above = frame.f_back
        while above is not None and above.f_code is not self._record:
            code = above.f_code
            seen = above.f_locals
            name = code.co_varnames[0] if code.co_argcount else ""
            owner = seen.get(name)
            if not (code.co_name == "__init__" and owner is module):
                calls.append(self._call(above, seen, owner, name))
            above = above.f_back
        self.calls[id(module)] = tuple(calls)
        self.made.append(module)

    def _call(self, frame: FrameType, seen: Mapping[str, Any], owner: Any, name: str) -> MakingCall:
        place = self._place(frame)
        source = self.sources.of(place.file)
        node = source.calls.get(place.span) if source is not None else None
        constructs = frame.f_code.co_name == "__init__" and isinstance(owner, nn.Module)
        if source is None or node is None:
            return MakingCall(place, None, {}, owner, name, constructs)
        values = _values(source, node, frame, seen)
        fixed = _is_fixed(node, seen, owner)
        return MakingCall(place, node, values, owner, name, constructs, fixed)

    def _place(self, frame: FrameType) -> CallPlace:
        code, at = frame.f_code, frame.f_lasti
        known = self._places.get((code, at))
        if known is None:
            line, last, column, end = list(code.co_positions())[at // 2]
            span = (line or 0, last or 0, column or 0, end or 0)
            known = CallPlace(code.co_filename, code.co_qualname, span)
            self._places[code, at] = known
        return known


def _values(
    source: SourceFile, node: ast.Call, frame: FrameType, seen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of the plain expressions in a call, those that are whole numbers."""
    found: dict[str, Any] = {}
    for text in source.words(node):
        with suppress(Exception):  # a name of another scope, an item that is not there yet
            value = eval(text, frame.f_globals, dict(seen))  # noqa: S307 - the call evaluates it as well
            if type(value) is int:
                found[text] = value
    return found


def _is_fixed(node: ast.Call, seen: Mapping[str, Any], owner: Any) -> bool:
    """Return whether a call's callee is the same for every caller of the function around it."""
    first: ast.expr = node.func
    while isinstance(first, ast.Attribute):
        first = first.value
    return isinstance(first, ast.Name) and (first.id not in seen or seen[first.id] is owner)

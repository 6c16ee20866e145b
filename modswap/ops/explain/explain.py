"""Explain a forward pass: the passes that it takes, their checks, and the record of them."""

import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from modswap.core.errors import ExplainError, InputError, ModswapError, ShapeError
from modswap.core.explained.record import (
    Explained,
    Formula,
    Numbers,
    OtherForm,
    UsedOption,
)
from modswap.core.explained.words import ModuleText, Words
from modswap.core.raised import error_of_model
from modswap.live_values import dtype_name, live_tensors, nbytes_of
from modswap.nn import CATALOGUE
from modswap.nn.texts import Lesson, flops_of, lesson_of
from modswap.ops.explain.axes import Axes, axes_of, names_in
from modswap.ops.explain.operators import Operators
from modswap.ops.explain.passes import Forward, Fresh, Times, counted, repeatable, same_bits, timed
from modswap.ops.explain.recorder import LineRecorder, Scene
from modswap.ops.explain.rows import Rows, added, paths_in, total
from modswap.ops.explain.source import source_of
from modswap.ops.explain.values import described
from modswap.ops.run.describe import one_line

UNFUSED = Words(
    "torch's fused kernel of such layers is off in all these runs, so that their steps are seen",
    "这些运行中都关闭了 torch 对此类层的融合算子，以便看到各个步骤",
)
_FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
PLAIN, FAST = "plain", "fast"
UNSURE = Words(
    "two plain runs differ from one another, so the explained run cannot be compared with them",
    "两次普通运行的输出互不相同，因此无法与解释用的运行比较",
)


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """The explanation that is asked for.

    Args:
        title: The module in words.
        depth: How many functions below the forward are followed; None: as the module needs.
        plain: Whether the paper's form is explained; None: where there is one.
        times: Whether lines are timed.
        args: Arguments of the constructor, where they are known.
        seed: Of the random numbers of each run.
    """

    title: str
    depth: int | None = None
    plain: bool | None = None
    times: bool = True
    args: Mapping[str, Any] | None = None
    seed: int = 0


def explained(forward: Forward, wanted: ExplainRequest) -> Explained:
    """Return the explanation of a call of a module.

    Raises:
        ExplainError: If the module has no lines to explain, or no plain form.
        ShapeError: If the recorded run is not the plain run: another output, or other FLOPs.
    """
    lesson = lesson_of(forward.module)
    forward, form = _formed(forward, lesson, wanted)
    refuse_unreadable(forward, wanted.title)
    try:
        with repeatable(forward.module, wanted.seed) as fresh:
            return _Explaining(forward, wanted, lesson, form, fresh).result()
    except ModswapError:
        raise
    except Exception as error:
        theirs = error_of_model(error, wanted.title)
        if theirs is None:
            raise
        raise theirs.with_fix("it ran once, so let it run again on the same input") from error


def _formed(forward: Forward, lesson: Lesson | None, wanted: ExplainRequest) -> tuple[Forward, str]:
    """Return the forward of the wanted form, and its name; empty for a module with one form."""
    form = lesson.form_of(forward.module) if lesson is not None else None
    if form is None:
        if wanted.plain:
            what = "it has no plain form beside the one that runs"
            raise ExplainError(what, wanted.title, "leave --plain out")
        return forward, ""
    if wanted.plain is False:
        return forward, FAST
    return Forward(forward.module, forward.args, forward.kwargs, form), PLAIN


def refuse_unreadable(forward: Forward, title: str) -> None:
    """Refuse a module whose forward is not Python with source.

    Raises:
        ExplainError: If it is compiled, a lambda, or has no source.
    """
    _refuse_compiled(forward.module, title)
    function = inspect.unwrap(forward.form or forward.module.forward)
    code = getattr(function, "__code__", None)
    if code is not None and code.co_name == "<lambda>":
        what = "its forward is a lambda, which has no lines"
        raise ExplainError(what, title, "write it as a `def forward`")
    if code is None or source_of(code) is None:
        where = f" in {code.co_filename}" if code is not None else ""
        what = f"the source of its forward cannot be read{where}"
        fix = "put its class into a file that Python can read, and import it from there"
        raise ExplainError(what, title, fix)


def _refuse_compiled(module: nn.Module, title: str) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        what = "the module is compiled by TorchScript, and has no lines of Python"
        raise ExplainError(what, title, "explain the module that it was made from")
    wrapped = isinstance(getattr(module, "_orig_mod", None), nn.Module)
    if wrapped or getattr(module, "_compiled_call_impl", None) is not None:
        fix = "explain `module._orig_mod`" if wrapped else "load it again"
        what = "the module is compiled by torch.compile, which runs no lines of Python"
        raise ExplainError(what, title, fix)


@dataclass(frozen=True, slots=True)
class _Explaining:
    """The passes of one explanation."""

    forward: Forward
    wanted: ExplainRequest
    lesson: Lesson | None
    form: str
    fresh: Fresh

    def result(self) -> Explained:
        self._first()
        output = self._plain(self.forward)
        recorder = LineRecorder(self.forward.code, values=True)
        with self.fresh():
            operators = Operators(recorder)
            seen = self.forward.recorded(recorder, operators)
        top = recorder.top
        if top is None:
            what = "no line of its forward ran: another function runs in its place"
            raise ExplainError(what, self.wanted.title, "take the wrapper off")
        notes = tuple(self._judged(output, seen))
        counter = self._counted(operators.flops)
        self._mark(top)
        times = timed(self.forward, self.fresh) if self.wanted.times else None
        axes = self._axes(output)
        result = self._record(top, axes, times, counter, output)
        return replace(
            result, left_out=tuple(operators.beyond.items()), notes=notes, equal=UNSURE not in notes
        )

    def _first(self) -> None:
        """Run it once, so that caches are warm, and the input is known to fit."""
        try:
            self._plain(self.forward)
        except ModswapError:
            raise
        except Exception as error:
            what = f"the model refuses the input: {one_line(error)}"
            raise InputError(what, self.wanted.title, "give an input that it takes") from error

    def _plain(self, forward: Forward) -> Any:
        with self.fresh():
            return forward.run()

    def _judged(self, output: Any, seen: Any) -> Iterator[Words]:
        """Compare the recorded run with the plain one, bit for bit; yield what is to be said."""
        if any(isinstance(one, _FUSED) for one in self.forward.module.modules()):
            yield UNFUSED
        if same_bits(output, seen):
            return
        if same_bits(output, self._plain(self.forward)):
            what = "the recorded run gave another output than the plain run"
            raise ShapeError(what, self.wanted.title, "report it with the module, please")
        yield UNSURE

    def _counted(self, flops: int) -> int:
        with self.fresh():
            counter = counted(self.forward.ready())
        if counter != flops:
            what = f"the lines have {flops:,} FLOPs, torch's own counter {counter:,}"
            raise ShapeError(what, self.wanted.title, "report it with the module, please")
        return counter

    def _mark(self, top: Scene) -> None:
        """Mark the lines whose values hold NaN or infinity, by a pass of its own."""
        recorder = LineRecorder(self.forward.code, values=True, finite=True)
        with self.fresh():
            self.forward.recorded(recorder, Operators(recorder))
        if recorder.top is not None:
            _take_marks(top, recorder.top)

    def _axes(self, output: Any) -> Axes:
        floating = [t for t in (*live_tensors(self.forward.args), *live_tensors(output))
                    if t.is_floating_point()]  # fmt: skip
        dtype = dtype_name(floating[0].dtype) if floating else ""
        sizes = self.lesson.sizes(self.forward.module) if self.lesson is not None else None
        return axes_of(self.forward, self.fresh, sizes, dtype)

    def _record(
        self,
        top: Scene,
        axes: Axes,
        times: Times | None,
        counter: int,
        output: Any,
    ) -> Explained:
        module, lesson = self.forward.module, self.lesson
        text = lesson.text if lesson is not None else None
        places = None if times is None else times.places
        root = Rows(axes, places, *self._depth(), paths_in(module), text).root(top)
        numbers = Numbers(*_total(top), None if times is None else times.lines)
        return Explained(
            title=self.wanted.title,
            inputs=tuple(_inputs(self.forward)),
            facts=tuple(_facts(module, axes.dtype)),
            root=root,
            numbers=numbers,
            counter=counter,
            plain_seconds=None if times is None else times.plain,
            axes=tuple(axes.shown(names_in(root))),
            options=tuple(_options(module, self.wanted.args, text)),
            form=self.form,
            other=self._other(output),
            formula=self._formula(),
            text=text,
        )

    def _depth(self) -> tuple[int, Collection[str] | None]:
        """Return how many functions are followed, and which alone: those with explained steps."""
        if self.wanted.depth is not None:
            return self.wanted.depth, None
        if self.lesson is not None and self.form != FAST:
            return self.lesson.depth, self.lesson.text.steps
        return int(isinstance(self.forward.module, nn.Sequential)), None

    def _other(self, output: Any) -> OtherForm | None:
        """Return the cost of the other form of the module, and how far its output is away."""
        if not self.form:
            return None
        lesson = self.lesson
        name = FAST if self.form == PLAIN else PLAIN
        form = None if name == FAST or lesson is None else lesson.form_of(self.forward.module)
        other = Forward(self.forward.module, self.forward.args, self.forward.kwargs, form)
        self._plain(other)
        recorder = LineRecorder(other.code, values=False)
        with self.fresh():
            found = other.recorded(recorder, Operators(recorder))
        seconds = timed(other, self.fresh).plain if self.wanted.times else None
        counts = _total(recorder.top) if recorder.top is not None else (0, 0, 0)
        return OtherForm(name, Numbers(*counts, seconds), _difference(output, found))

    def _formula(self) -> Formula | None:
        if self.lesson is None:
            return None
        tensors = live_tensors(self.forward.args)
        shape = tuple(tensors[0].shape) if tensors else ()
        flops = flops_of(self.lesson, self.forward.module, shape)
        row = CATALOGUE[self.lesson.name]
        return None if flops is None else Formula(row.flops, flops)


def _take_marks(scene: Scene, found: Scene) -> None:
    waiting = [(scene, found)]  # as deep as Python lets a forward call itself
    while waiting:
        one, its = waiting.pop()
        for number, spot in one.spots.items():
            other = its.spots.get(number)
            if other is not None:
                spot.marks = other.marks
                shared = spot.scenes.keys() & other.scenes.keys()
                waiting += ((spot.scenes[code], other.scenes[code]) for code in shared)


def _total(scene: Scene) -> tuple[int, int, int]:
    parts = [Numbers(*total(spot)) for spot in scene.spots.values()]
    whole = added(parts)
    return whole.flops, whole.beyond, whole.nbytes


def _difference(one: Any, other: Any) -> float:
    """Return the largest difference of two outputs, over the largest of their values."""
    worst = 0.0
    for a, b in zip(live_tensors(one), live_tensors(other), strict=False):
        if a.is_floating_point() and a.numel():
            size = float(a.abs().max()) or 1.0
            worst = max(worst, float((a.double() - b.double()).abs().max()) / size)
    return worst


def _inputs(forward: Forward) -> Iterator[str]:
    for value in forward.args:
        yield _shown(value)
    for name, value in forward.kwargs.items():
        yield f"{name}={_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"({', '.join(map(str, value.shape))})"
    return (
        str(described(value))
        if not isinstance(value, (tuple, list, dict))
        else type(value).__name__
    )


def _facts(module: nn.Module, dtype: str) -> Iterator[Words]:
    parameters = list(module.parameters())
    device = str(parameters[0].device if parameters else "cpu").upper()
    known = [one for one in (dtype, device) if one]
    yield Words(", ".join(known), "，".join(known))
    flags = {one.training for one in module.modules()}
    yield _MODES[len(flags) > 1 or True in flags, False in flags]
    count = sum(one.numel() for one in parameters)
    nbytes = sum(nbytes_of(one) for one in parameters)
    yield Words(f"{count:,} parameters, {nbytes:,} bytes", f"{count:,} 个参数，{nbytes:,} 字节")


_MODES = {  # by whether modules train, and whether modules evaluate
    (True, True): Words("training in parts", "部分模块处于训练模式"),
    (True, False): Words("training", "训练模式"),
    (False, True): Words("evaluation", "推理模式"),
}


def _options(
    module: nn.Module, args: Mapping[str, Any] | None, text: ModuleText | None
) -> Iterator[UsedOption]:
    """Yield the arguments of the module's class with the values in use."""
    try:
        parameters = inspect.signature(type(module).__init__).parameters.values()
    except (TypeError, ValueError):
        return
    for one in list(parameters)[1:]:
        if one.kind in {one.VAR_POSITIONAL, one.VAR_KEYWORD}:
            continue
        known = text.options.get(one.name) if text is not None else None
        yield UsedOption(one.name, _used(module, one.name, args), known)


def _used(module: nn.Module, name: str, args: Mapping[str, Any] | None) -> str:
    """Return the value of an argument: as it was given, or as the module holds it; else empty."""
    if args is not None and name in args:
        return str(described(args[name]))
    own = vars(module)
    if name in own:
        return str(described(own[name]))
    inner = own.get("_modules", {}).get(name)
    return type(inner).__name__ if inner is not None else ""

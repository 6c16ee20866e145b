"""Export a copy of the swapped model, and compare the outputs of both."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from io import StringIO
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_flatten

from modswap.core.finding import Finding
from modswap.io.formats.exported.program import quiet
from modswap.ops.examine.bench import Bench
from modswap.ops.examine.exporting.messages import Warned, heard, reason
from modswap.ops.examine.exporting.ways import WAYS, Axes, Flat, Tensors, missing
from modswap.ops.run.devices import device_of
from modswap.ops.run.inputs import Case
from modswap.ops.run.model_copy import (
    copied_model,
    in_float32,
    outputs_differ,
    too_large,
)
from modswap.seeds import seeded

TIMEOUT_SECONDS = 180.0  # for one way, the original included
REPEAT_SECONDS = 1.0  # until the alarm is repeated, as Python ignores an error inside a destructor
SIZED = ("pt2", "onnx")  # ways that take the axes whose sizes may vary
BATCH = "a batch of "
SIZES = "export it anew for each size that it is run at, or "
FIX = (
    "choose a module that can be exported so, change its args, "
    "or leave {way!r} out of `verify: export`"
)


class TookTooLongError(BaseException):
    """Raised when the time is up; torch's own handlers do not catch it."""


class Input(NamedTuple):
    """Tensors that the exported model is run on, and what the model in memory returns for them."""

    name: str  # in reports
    tensors: Tensors
    outputs: Tensors


@dataclass(frozen=True, slots=True)
class Twin:
    """A copy of a model, and the inputs that it takes."""

    model: Flat
    inputs: tuple[Input, ...]


@dataclass(slots=True)
class Tried:
    """The results of an export, by the name of the input."""

    apart: dict[str, float] = field(default_factory=dict)  # the largest difference, where it holds
    why: dict[str, str] = field(default_factory=dict)  # the reason, where it does not
    warned: list[Warned] = field(default_factory=list)  # by torch


def export(bench: Bench) -> Iterator[Finding]:
    """Export a copy of the swapped model in every way of `verify.export`, and compare it.

    The ways are `torchscript`, `onnx`, `pt2` and `compile`. The outputs are compared at other
    values, another batch and each of `verify.sizes`. It fails only where the export of the original
    holds, or where a way cannot be tried and is not in `verify.optional`. No message of a compiler
    reaches the terminal.
    """
    ways = bench.recipe.verify.export
    if not ways:
        return
    large = too_large(bench.model)
    if large:
        yield from (_unmade(way, large, bench) for way in ways)
        return
    twin = _twin(bench)
    if not twin.inputs:
        yield from _refused(ways, bench)
        return
    if _drawn(twin):
        yield from (_unmade(way, "its outputs are drawn anew each time", bench) for way in ways)
        return
    for way in ways:
        bench.progress(f"exporting: {way}")
        yield _examined(way, twin, bench)


def _refused(ways: Sequence[str], bench: Bench) -> Iterator[Finding]:
    """Yield the findings of a model that refuses all its inputs in evaluation."""
    with bench.original():
        original = _twin(bench)
    for way in ways:
        if original.inputs:
            what = f"{way}: in evaluation it refuses every input, the original takes them"
            yield Finding("export", "", "failed", what, FIX.format(way=way), {"way": way})
        else:
            yield _skipped(way, "in evaluation it refuses the inputs, as the original does")


def _examined(way: str, twin: Twin, bench: Bench) -> Finding:
    lacking = missing(way)
    if lacking:
        what = f"{', '.join(lacking)}: not installed"
        return _unmade(way, what, bench, "pip install onnx onnxscript onnxruntime")
    try:
        with _bounded(TIMEOUT_SECONDS):
            swapped = _tried(way, twin)
            if not swapped.why:
                return _passed(way, swapped, heard(swapped.warned, twin.model.model))
            with bench.original():
                original = _twin(bench)
            return _judged(way, swapped, _tried(way, original))
    except TookTooLongError:
        return _unmade(way, f"it took longer than {TIMEOUT_SECONDS:.0f} s", bench)


def _judged(way: str, swapped: Tried, original: Tried) -> Finding:
    """Return the finding of a way that does not hold at every input."""
    worse = {name: why for name, why in swapped.why.items() if name in original.apart}
    if worse:
        name, why = next(iter(worse.items()))
        place = "" if not swapped.apart and len(worse) == len(swapped.why) else f"at {name}: "
        what = f"{way}: {place}{why}; the original holds there"
        fix = (SIZES if swapped.apart else "") + FIX.format(way=way)
        return Finding("export", "", "failed", what, fix, _data(way, swapped))
    if swapped.apart:
        return _passed(way, swapped)
    why = next(iter(original.why.values()), "it refuses the inputs")
    return _skipped(way, f"the original could not be exported so either: {why}")


def _passed(way: str, tried: Tried, warned: str = "") -> Finding:
    furthest = max(tried.apart.values())
    what = f"{way}: the same at {len(tried.apart)} inputs, at most {furthest:.2g} apart{warned}"
    if tried.why:
        what += f"; not at {', '.join(tried.why)}, where the original could not either"
    return Finding("export", "", "passed", what, data=_data(way, tried))


def _unmade(way: str, why: str, bench: Bench, fix: str = "") -> Finding:
    """Return the finding of a way that was not tried: a failure, unless the recipe allows it."""
    if bench.recipe.verify.may_lack(way, "export"):
        return _skipped(way, why, fix)
    otherwise = (
        f"take {way!r} out of `verify: export`, or allow it: `verify: {{optional: [{way}]}}`"
    )
    return replace(
        _skipped(way, why, f"{fix}; or {otherwise}" if fix else otherwise), status="failed"
    )


def _skipped(way: str, why: str, fix: str = "") -> Finding:
    return Finding("export", "", "skipped", f"{way}: {why}", fix, {"way": way})


def _data(way: str, tried: Tried) -> dict[str, Any]:
    return {"way": way, "apart": dict(tried.apart), "failed": dict(tried.why)}


def _twin(bench: Bench) -> Twin:
    """Return a copy of the model, with its outputs for all inputs."""
    prepared = bench.prepared
    case = prepared.cases[0]
    twin = copied_model(bench.model, unreal=prepared.unreal, seed=prepared.seed)
    twin, dtype = in_float32(twin, case)
    args, kwargs = case.call.live(prepared.seed, dtype, device_of(twin))
    model = Flat(twin, args, kwargs)
    inputs = (
        Input(name, tensors, outputs)
        for name, tensors in _inputs(model, prepared.cases, prepared.seed, dtype)
        if (outputs := _outputs(model, tensors)) is not None
    )
    return Twin(model, tuple(inputs))


def _inputs(
    model: Flat, cases: Sequence[Case], seed: int, dtype: torch.dtype | None
) -> Iterator[tuple[str, Tensors]]:
    """Yield the dummy input, other values for it, another batch, and all calls of its form."""
    first = cases[0]
    tensors = _tensors(model, first.call.live(seed, dtype, device_of(model)))
    if tensors is None:
        return
    yield str(first.call), tensors
    yield f"{first.call} of other values", tuple(map(_negated, tensors))
    if _has_batch(tensors):
        twice = tuple(torch.cat([tensor, _negated(tensor)]) for tensor in tensors)
        yield f"{BATCH}{len(twice[0])}", twice
    for name, case in {str(case.call): case for case in reversed(cases)}.items():
        other = _tensors(model, case.call.live(seed, dtype, device_of(model)))
        if name != str(first.call) and other is not None:
            yield name, other


def _has_batch(tensors: Tensors) -> bool:
    """Return whether all tensors have a first axis, of one size."""
    return len({tensor.shape[:1] for tensor in tensors}) == 1 and tensors[0].ndim > 0


def _negated(tensor: torch.Tensor) -> torch.Tensor:
    return -tensor if tensor.is_floating_point() else tensor


def _tensors(model: Flat, call: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensors | None:
    """Return the tensors of a call; None if its form is not that of the exported call."""
    leaves, structure = tree_flatten(call)
    constants = [None if torch.is_tensor(leaf) else leaf for leaf in leaves]
    if structure != model.structure or constants != model.leaves:
        return None
    return tuple(leaf for leaf in leaves if torch.is_tensor(leaf))


def _outputs(model: Flat, tensors: Tensors) -> Tensors | None:
    """Return the outputs of a model; None if it refuses the input."""
    try:
        with _isolated():
            outputs: Tensors = model(*(tensor.clone() for tensor in tensors))
            return tuple(output.clone() for output in outputs)
    except Exception:  # noqa: BLE001 - a model's own code may raise anything
        return None


def _drawn(twin: Twin) -> bool:
    """Return whether the outputs of the model differ from call to call."""
    first = twin.inputs[0]
    with _isolated(seed=1):
        again = twin.model(*(tensor.clone() for tensor in first.tensors))
        return outputs_differ(first.outputs, again)[0] != ""


def _tried(way: str, twin: Twin) -> Tried:
    """Return the results of a model that is exported in a way."""
    tried = Tried()
    if not twin.inputs:
        return tried
    shapes = [tuple(tensor.shape for tensor in each.tensors) for each in twin.inputs]
    first, axes = twin.inputs[0], _varying(shapes) if way in SIZED else ((),)
    batches = (each for each in twin.inputs if each.name.startswith(BATCH))
    _run(way, twin.model, twin.inputs, next(batches, first) if any(axes) else first, axes, tried)
    if any(axes) and first.name in tried.why:
        fixed = tuple(() for _ in shapes[0])
        pairs = zip(twin.inputs, shapes, strict=True)
        alike = [each for each, shape in pairs if shape == shapes[0]]
        _run(way, twin.model, alike, first, fixed, tried)
    return tried


def _run(
    way: str, model: Flat, inputs: Sequence[Input], example: Input, axes: Axes, tried: Tried
) -> None:
    """Export a model, run it on some inputs, and add the results to those of the way."""
    with _isolated():
        try:
            tensors = tuple(tensor.clone() for tensor in example.tensors)
            run = WAYS[way](model, tensors, axes, tried.warned)
        except Exception as error:  # noqa: BLE001 - torch's tracers raise anything
            why = reason(error, model.model)
            tried.why.update(dict.fromkeys((each.name for each in inputs), why))
            return
        for each in inputs:
            try:
                outputs = run(tuple(tensor.clone() for tensor in each.tensors))
                why, distance = outputs_differ(each.outputs, outputs)
            except Exception as error:  # noqa: BLE001 - as above
                why, distance = reason(error, model.model), 0.0
            if why:
                tried.why[each.name] = why + heard(tried.warned, model.model)
            else:
                tried.apart[each.name] = distance
                tried.why.pop(each.name, None)


def _varying(shapes: Sequence[tuple[torch.Size, ...]]) -> Axes:
    """Return for each tensor the axes whose sizes differ among the inputs."""
    alike = [shape for shape in shapes if [len(s) for s in shape] == [len(s) for s in shapes[0]]]
    return tuple(
        tuple(axis for axis in range(len(own[0])) if len({shape[axis] for shape in own}) > 1)
        for own in zip(*alike, strict=True)
    )


@contextmanager
def _isolated(seed: int = 0) -> Iterator[None]:
    """Run a block without gradients and output, from a seed; the random states are restored."""
    with quiet(), redirect_stderr(StringIO()), seeded(seed), torch.no_grad():
        yield


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """End a block after a time, where that can be done: in the main thread of a POSIX system."""
    alarm = getattr(signal, "SIGALRM", None)
    if alarm is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: int | FrameType | None) -> None:
        raise TookTooLongError

    before = signal.signal(alarm, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(alarm, before)

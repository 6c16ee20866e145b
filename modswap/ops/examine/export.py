"""The examination `export`: whether the swapped model computes the same once it is exported."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from types import FrameType
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from modswap.core.finding import Finding
from modswap.io.formats.exported.program import quiet
from modswap.ops.examine.bench import Bench
from modswap.ops.examine.exporting.messages import Warned, heard, reason
from modswap.ops.examine.exporting.ways import WAYS, Axes, Flat, Tensors, missing
from modswap.ops.run.inputs import Case
from modswap.ops.run.model_copy import (
    copied_model,
    in_float32,
    live_call,
    outputs_differ,
    too_large,
)

SECONDS = 180.0  # for one way, the original included
SIZED = ("pt2", "onnx")  # ways that are told which sizes may vary
SIZES = "export it anew for each size that it is run at, or "
FIX = (
    "choose a module that can be exported so, change its args, "
    "or leave {way!r} out of `verify: export`"
)


class TookTooLongError(BaseException):
    """The time is up; torch's own handlers do not catch it."""


@dataclass(frozen=True, slots=True)
class Input:
    """One set of tensors that the exported model is run on.

    Args:
        name: What a report calls it.
        tensors: The tensors.
    """

    name: str
    tensors: Tensors


@dataclass(frozen=True, slots=True)
class Twin:
    """A copy of a model, and what it gives for every input.

    Args:
        model: The copy.
        inputs: What it is run on; those that it refuses itself are left out.
        outputs: What it gives.
    """

    model: Flat
    inputs: tuple[Input, ...]
    outputs: tuple[Tensors, ...]


@dataclass(slots=True)
class Tried:
    """What became of one way.

    Args:
        apart: For each input that agrees, the largest difference of an output.
        why: For each other input, the reason.
        warned: What torch warned of.
    """

    apart: dict[str, float] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    warned: list[Warned] = field(default_factory=list)


def export(bench: Bench) -> Iterator[Finding]:
    """Export a copy of the swapped model in every way that the recipe names, and compare it.

    Where it fails, the original is exported as well: the swap is to blame only for what the
    original could do. No compiler's message reaches the terminal.

    Args:
        bench: What to examine.
    """
    ways = bench.recipe.verify.export
    if not ways:
        return
    large = too_large(bench.model)
    if large:
        yield from (_skipped(way, large) for way in ways)
        return
    twin = _twin(bench)
    if not twin.inputs:
        yield from _refused(ways, bench)
        return
    if _drawn(twin):
        yield from (_skipped(way, "its outputs are drawn anew each time") for way in ways)
        return
    for way in ways:
        bench.progress(f"exporting: {way}")
        yield _examined(way, twin, bench)


def _refused(ways: Sequence[str], bench: Bench) -> Iterator[Finding]:
    """Yield what to say of a model that takes none of its inputs in evaluation."""
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
        return _skipped(way, what, "pip install onnx onnxscript onnxruntime")
    try:
        with _bounded(SECONDS):
            swapped = _tried(way, twin)
            if not swapped.why:
                return _passed(way, swapped, heard(swapped.warned, twin.model.model))
            with bench.original():
                original = _twin(bench)
            return _judged(way, swapped, _tried(way, original))
    except TookTooLongError:
        return _skipped(way, f"it took longer than {SECONDS:.0f} s")


def _judged(way: str, swapped: Tried, original: Tried) -> Finding:
    """Return the finding for a way that does not hold at every input."""
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


def _skipped(way: str, why: str, fix: str = "") -> Finding:
    return Finding("export", "", "skipped", f"{way}: {why}", fix, {"way": way})


def _data(way: str, tried: Tried) -> dict[str, Any]:
    return {"way": way, "apart": dict(tried.apart), "failed": dict(tried.why)}


def _twin(bench: Bench) -> Twin:
    """Return a copy of the model as it stands, with all that it gives."""
    prepared = bench.prepared
    case = prepared.cases[0]
    twin = copied_model(bench.model, unreal=prepared.unreal, seed=prepared.seed)
    twin, dtype = in_float32(twin, case)
    args, kwargs = live_call(case, prepared.seed, dtype)
    model = Flat(twin, args, kwargs)
    found = [
        (one, given)
        for one in _inputs(model, prepared.cases, prepared.seed, dtype)
        if (given := _given(model, one.tensors)) is not None
    ]
    return Twin(model, tuple(one for one, _ in found), tuple(given for _, given in found))


def _inputs(
    model: Flat, cases: Sequence[Case], seed: int, dtype: torch.dtype | None
) -> Iterator[Input]:
    """Yield the dummy input, other values for it, another batch, and all calls of its form."""
    first = cases[0]
    tensors = _tensors(model, live_call(first, seed, dtype))
    if tensors is None:
        return
    yield Input(str(first.call), tensors)
    yield Input(f"{first.call} of other values", tuple(map(_negated, tensors)))
    if tensors and len({t.shape[:1] for t in tensors}) == 1 and tensors[0].ndim:
        count = 2 * len(tensors[0])
        yield Input(f"a batch of {count}", tuple(torch.cat([t, _negated(t)]) for t in tensors))
    for name, case in {str(one.call): one for one in reversed(cases)}.items():
        other = _tensors(model, live_call(case, seed, dtype))
        if name != str(first.call) and other is not None:
            yield Input(name, other)


def _negated(tensor: torch.Tensor) -> torch.Tensor:
    return -tensor if tensor.is_floating_point() else tensor


def _tensors(model: Flat, call: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensors | None:
    """Return the tensors of a call; None if it has another form than the one that is exported."""
    leaves, structure = tree_flatten(call)
    constants = [None if torch.is_tensor(leaf) else leaf for leaf in leaves]
    if structure != model.structure or constants != model.leaves:
        return None
    return tuple(leaf for leaf in leaves if torch.is_tensor(leaf))


def _given(model: Flat, tensors: Tensors) -> Tensors | None:
    """Return what a model gives; None if it refuses the input."""
    try:
        with _alone():
            outputs: Tensors = model(*(tensor.clone() for tensor in tensors))
            return tuple(output.clone() for output in outputs)
    except Exception:  # noqa: BLE001 - a model's own code may raise anything
        return None


def _drawn(twin: Twin) -> bool:
    """Return whether the model gives something else each time."""
    if not twin.inputs:
        return False
    with _alone():
        torch.manual_seed(1)
        again = twin.model(*(tensor.clone() for tensor in twin.inputs[0].tensors))
        return outputs_differ(twin.outputs[0], again)[0] != ""


def _tried(way: str, twin: Twin) -> Tried:
    """Return how a model fares when it is exported in a way."""
    if not twin.inputs:
        return Tried()
    shapes = [tuple(t.shape for t in one.tensors) for one in twin.inputs]
    example = next((i for i, one in enumerate(twin.inputs) if "batch" in one.name), 0)
    axes = _varying(shapes) if way in SIZED else ((),)
    tried = Tried()
    _run(way, twin, range(len(shapes)), example if any(axes) else 0, axes, tried)
    dummy = twin.inputs[0].name
    if way in SIZED and any(axes) and dummy in tried.why:
        fixed = tuple(() for _ in shapes[0])
        alike = [i for i, shape in enumerate(shapes) if shape == shapes[0]]
        _run(way, twin, alike, 0, fixed, tried)
    return tried


def _run(
    way: str,
    twin: Twin,
    which: Sequence[int],
    example: int,
    axes: Axes,
    tried: Tried,
) -> None:
    """Export a model and run it on some of its inputs, what is found added to what was tried."""
    names = [twin.inputs[i].name for i in which]
    with _alone():
        try:
            given = tuple(t.clone() for t in twin.inputs[example].tensors)
            run = WAYS[way](twin.model, given, axes, tried.warned)
        except Exception as error:  # noqa: BLE001 - torch raises whatever its tracers lack
            tried.why.update(dict.fromkeys(names, reason(error, twin.model.model)))
            return
        for i, name in zip(which, names, strict=True):
            why, distance = _compared(run, twin, i)
            if why:
                tried.why[name] = why + heard(tried.warned, twin.model.model)
            else:
                tried.apart[name] = distance
                tried.why.pop(name, None)


def _compared(run: Any, twin: Twin, i: int) -> tuple[str, float]:
    try:
        outputs = run(tuple(t.clone() for t in twin.inputs[i].tensors))
    except Exception as error:  # noqa: BLE001 - as above
        return reason(error, twin.model.model), 0.0
    return outputs_differ(twin.outputs[i], outputs)


def _varying(shapes: Sequence[tuple[torch.Size, ...]]) -> Axes:
    """Return for each tensor the axes whose sizes differ among the inputs."""
    alike = [shape for shape in shapes if [len(s) for s in shape] == [len(s) for s in shapes[0]]]
    return tuple(
        tuple(axis for axis in range(len(own[0])) if len({shape[axis] for shape in own}) > 1)
        for own in zip(*alike, strict=True)
    )


@contextmanager
def _alone() -> Iterator[None]:
    """Run a block without gradients, without a word, and without a trace in the random state."""
    with quiet(), redirect_stderr(StringIO()), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
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
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(alarm, before)

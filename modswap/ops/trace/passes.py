"""Run the model once and record the calls of every module."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from modswap.core.decided.verdict import Pass, Visit
from modswap.core.seen.layout import Clue
from modswap.core.seen.values import placed
from modswap.nn.attention_backend import plain_attention
from modswap.ops.run.describe import describe, one_line
from modswap.ops.run.devices import autocast_type, device_of
from modswap.ops.run.forward import input_dtype, pass_dtype, run_model
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import untouched
from modswap.ops.run.leaves import live_tensors, map_tensors
from modswap.ops.run.shape_shortcuts import Shortcuts
from modswap.ops.run.stand_ins import StandIns, fake_values, meta_values
from modswap.ops.trace.recorder import Recorder
from modswap.seeds import seeded


@dataclass(frozen=True, slots=True)
class Trace:
    """The record of one pass.

    Args:
        seen: The pass.
        same_tensor: For each path, layers of known convention that took or gave its own input.
        clues: Layers of known convention, in the order they ran.
        unreal: Whether the values were fake: shapes without data.
        cause: What the pass raised, if it did.
    """

    seen: Pass
    same_tensor: Mapping[str, tuple[Clue, ...]]
    clues: tuple[Clue, ...]
    unreal: bool = False
    cause: BaseException | None = None


def trace(
    model: nn.Module, case: Case, *, seed: int = 0, unreal: bool = False, quick: bool = False
) -> Trace:
    """Run the model once and return what every module was given and gave back.

    The model is as it was afterwards: flags, buffers, attributes, hooks and random state. An
    exception that the model raises is part of what is returned.

    Args:
        model: The model.
        case: Input, mode and dtype.
        seed: For the dummy input and for what the model draws.
        unreal: Whether to run on tensors that have shapes and no data.
        quick: Whether common layers may then tell their shapes without torch's own steps; what
            fails is run again with them.
    """
    if not unreal:
        return _trace(model, case, seed, None)
    if case.autocast:  # has no effect on the meta device
        return _trace(model, case, seed, fake_values)
    # convolutions lose the memory layout of their input on the meta device
    tries = (fake_values, meta_values) if case.channels_last else (meta_values,)
    for stand_ins in tries:
        with Shortcuts() if quick else nullcontext():
            one = _trace(model, case, seed, stand_ins)
        if one.cause is None:
            return one
    # the meta device may have refused what a device can do; fake tensors do more, and name causes
    return _trace(model, case, seed, fake_values)


def _trace(model: nn.Module, case: Case, seed: int, stand_ins: StandIns | None) -> Trace:
    recorder = Recorder(dict(first_paths(model)))
    output: Any = None
    cause: BaseException | None = None
    unreal = stand_ins is not None
    with (
        untouched(model, training=case.mode == "train", unreal=unreal),
        recorder.attached(),
        plain_attention() if unreal else nullcontext(),
        seeded(seed),
        torch.no_grad(),
    ):
        given = _inputs(model, case, seed)
        try:
            output = _run(model, case, given, stand_ins)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            cause = error
    seen = _pass_of(case, recorder, output, cause)
    if stand_ins is meta_values:
        seen = _on_device(seen, str(device_of(model)))
    if not unreal and cause is None:
        seen = replace(seen, finite=_all_finite(output))
    clues = {path: tuple(found) for path, found in recorder.same_tensor.items()}
    return Trace(seen, clues, tuple(recorder.clues), unreal, cause)


def _inputs(model: nn.Module, case: Case, seed: int) -> tuple[Any, Any]:
    """Return the live inputs of a case, on the model's device."""
    given = case.call.live(seed, input_dtype(model, case), device_of(model))
    return map_tensors(_channels_last, given) if case.channels_last else given


def _run(model: nn.Module, case: Case, given: tuple[Any, Any], stand_ins: StandIns | None) -> Any:
    """Return the output of a model for live inputs."""
    kind = autocast_type(device_of(model))
    dtype = pass_dtype(model, case)
    with torch.autocast(kind, torch.bfloat16, enabled=case.autocast):
        return run_model(model, *given, dtype=dtype, stand_ins=stand_ins)


def _pass_of(case: Case, recorder: Recorder, output: Any, cause: BaseException | None) -> Pass:
    """Return the record of a pass that ended with an output or an exception."""
    visits = tuple(recorder.visits)
    if cause is None:
        return Pass(case=case.key, visits=visits, output=describe(output), finite=None)
    missing, missing_at = _missing(cause, recorder.paths)
    return Pass(
        case=case.key,
        visits=visits,
        output=None,
        finite=None,
        error=one_line(cause),
        raised_in=recorder.innermost(),
        missing=missing,
        missing_at=missing_at,
    )


def _missing(cause: BaseException | None, paths: Mapping[nn.Module, str]) -> tuple[str, str]:
    """Return the attribute that a module was asked for and has not, and the module's path."""
    if not isinstance(cause, AttributeError) or not isinstance(cause.obj, nn.Module):
        return "", ""
    path = paths.get(cause.obj)
    return ("", "") if path is None else (str(cause.name), path)


def _on_device(seen: Pass, device: str) -> Pass:
    """Return the record of a pass on the meta device as if it had run on another device."""
    visits = tuple(_visit_on_device(visit, device) for visit in seen.visits)
    output = None if seen.output is None else placed(seen.output, device)
    return replace(seen, visits=visits, output=output)


def _visit_on_device(visit: Visit, device: str) -> Visit:
    """Return a call as if on another device; the memory layout of its output is unknown there."""
    call = replace(
        visit.call,
        args=tuple(placed(value, device) for value in visit.call.args),
        kwargs=tuple((name, placed(value, device)) for name, value in visit.call.kwargs),
        output=placed(visit.call.output, device),
    )
    return replace(visit, call=call, memory_format="")


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    is_map = tensor.ndim == 4
    return tensor.contiguous(memory_format=torch.channels_last) if is_map else tensor


def _all_finite(output: Any) -> bool:
    floating = [t for t in live_tensors(output) if t.is_floating_point() or t.is_complex()]
    return all(bool(torch.isfinite(tensor).all()) for tensor in floating)


def first_paths(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield every module once, with the first of its paths."""
    for path, module in model.named_modules():
        yield module, path

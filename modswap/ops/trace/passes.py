"""Run the model once and record the calls of every module."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from modswap.core.decided.verdict import Pass
from modswap.core.raised import error_of_model
from modswap.core.seen.layout import Clue
from modswap.live_values import describe, live_tensors, map_tensors
from modswap.nn.attention_backend import plain_attention
from modswap.ops.run.describe import all_finite, one_line
from modswap.ops.run.devices import autocast_type, device_of
from modswap.ops.run.forward import pass_dtype, run_model
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import untouched
from modswap.ops.run.shape_shortcuts import Shortcuts
from modswap.ops.run.stand_ins import StandIns, fake_values, meta_values
from modswap.ops.trace.axes import AxesMode
from modswap.ops.trace.recorder import Recorder
from modswap.seeds import seeded


@dataclass(frozen=True, slots=True)
class Trace:
    """The record of one pass.

    Args:
        seen: The pass.
        same_tensor: For each path, layers of known convention that took or gave its own input.
        clues: Layers of known convention, in the order they ran.
        cause: The exception that the pass raised, or None.
        entered: Whether the model was called; otherwise the preparation of the call raised.
    """

    seen: Pass
    same_tensor: Mapping[str, tuple[Clue, ...]]
    clues: tuple[Clue, ...]
    cause: BaseException | None = None
    entered: bool = True

    def raise_own_error(self) -> None:
        """Raise the exception of the pass if it came from before the model and its code."""
        if self.cause is not None and not self.entered and error_of_model(self.cause, "") is None:
            raise self.cause


_NESTED = "NestedTensorImpl doesn't support"


def trace(
    model: nn.Module,
    case: Case,
    *,
    seed: int = 0,
    unreal: bool = False,
    quick: bool = False,
    grids: bool = False,
) -> Trace:
    """Run the model once and return the inputs and outputs of every module.

    Afterwards flags, buffers, attributes, hooks and random state of the model are restored. An
    exception that the model raises is part of the record. The seed is for the dummy input and for
    random numbers that the model draws. An `unreal` pass runs on tensors that have shapes and no
    data; a `quick` one may then skip torch's own steps in common layers, and runs again with them
    if it fails. A pass that follows `grids` records which tokens are maps that were flattened.
    """
    run = partial(_trace, model, case, seed, grids=grids)
    if not unreal:
        one = run(None)
        if one.cause is None or _NESTED not in str(one.cause):
            return one
        with (
            plain_attention()
        ):  # torch's encoders pack tokens by a mask, into tensors without sizes
            return run(None)
    if case.autocast:  # has no effect on the meta device
        return run(fake_values)
    # on the meta device convolutions lose the memory layout of their input
    tries = (fake_values, meta_values) if case.channels_last else (meta_values,)
    for stand_ins in tries:
        with Shortcuts() if quick else nullcontext():
            one = run(stand_ins)
        if one.cause is None:
            return one
    # the meta device may refuse operations that a real device runs; fake tensors run more of them,
    # and name the causes of errors
    return run(fake_values)


def _trace(
    model: nn.Module, case: Case, seed: int, stand_ins: StandIns | None, *, grids: bool
) -> Trace:
    axes = AxesMode() if grids else None
    recorder = _recorder(model, stand_ins, axes)
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
            output = _run(model, case, given, stand_ins, axes)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            cause = error
    seen = _pass_of(case, recorder, output, cause)
    if not unreal and cause is None:
        seen = replace(seen, finite=all_finite(live_tensors(output)))
    clues = {path: tuple(found) for path, found in recorder.same_tensor.items()}
    return Trace(seen, clues, tuple(recorder.clues), cause, recorder.entered)


def _recorder(model: nn.Module, stand_ins: StandIns | None, axes: AxesMode | None) -> Recorder:
    paths = {module: path for path, module in model.named_modules()}
    return Recorder(paths, str(device_of(model)) if stand_ins is meta_values else "", axes)


def _inputs(model: nn.Module, case: Case, seed: int) -> tuple[Any, Any]:
    """Return the live inputs of a case, on the model's device."""
    given = case.call.live(seed, pass_dtype(model, case), device_of(model))
    return map_tensors(_channels_last, given) if case.channels_last else given


def _run(
    model: nn.Module,
    case: Case,
    given: tuple[Any, Any],
    stand_ins: StandIns | None,
    axes: AxesMode | None,
) -> Any:
    """Return the output of a model for live inputs."""
    kind = autocast_type(device_of(model))
    dtype = pass_dtype(model, case)
    with torch.autocast(kind, torch.bfloat16, enabled=case.autocast):
        return run_model(model, *given, dtype=dtype, stand_ins=stand_ins, within=axes)


def _pass_of(case: Case, recorder: Recorder, output: Any, cause: BaseException | None) -> Pass:
    """Return the record of a pass that ended with an output or an exception."""
    visits = tuple(recorder.visits)
    if cause is None:
        return Pass(case=case.key, visits=visits, output=describe(output, recorder.device))
    missing, missing_at = _missing(cause, recorder.paths)
    return Pass(
        case=case.key,
        visits=visits,
        error=one_line(cause),
        raised_in=recorder.innermost(),
        missing=missing,
        missing_at=missing_at,
    )


def _missing(cause: BaseException, paths: Mapping[nn.Module, str]) -> tuple[str, str]:
    """Return the attribute that an exception says a module lacks, and the module's path."""
    if not isinstance(cause, AttributeError) or not isinstance(cause.obj, nn.Module):
        return "", ""
    path = paths.get(cause.obj)
    return ("", "") if path is None else (str(cause.name), path)


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    is_map = tensor.ndim == 4
    return tensor.contiguous(memory_format=torch.channels_last) if is_map else tensor

"""One forward pass of the model, with every module's calls written down."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from modswap.core.decided.verdict import Pass, Visit
from modswap.core.seen.layout import Clue
from modswap.core.seen.values import placed
from modswap.nn.attention_backend import plain_attention
from modswap.ops.run.describe import describe, live_tensors, one_line
from modswap.ops.run.forward import pass_dtype, run_model
from modswap.ops.run.inputs import Case, make
from modswap.ops.run.isolation import untouched
from modswap.ops.run.shape_shortcuts import Shortcuts
from modswap.ops.run.stand_ins import StandIns, fake_values, meta_values
from modswap.ops.trace.recorder import Recorder
from modswap.seeds import seeded


@dataclass(frozen=True, slots=True)
class Trace:
    """What one pass showed.

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
    if case.autocast:  # which passes over tensors on the meta device
        return _trace(model, case, seed, fake_values)
    if case.channels_last:  # convolutions forget on the meta device how their input lies
        with Shortcuts() if quick else nullcontext():
            one = _trace(model, case, seed, fake_values)
        if one.cause is None:
            return one
    with Shortcuts() if quick else nullcontext():
        one = _trace(model, case, seed, meta_values)
    # what fails there may be a limit of the meta device; fake tensors have fewer, and tell more
    return one if one.cause is None else _trace(model, case, seed, fake_values)


def _trace(model: nn.Module, case: Case, seed: int, stand_ins: StandIns | None) -> Trace:
    unreal = stand_ins is not None
    recorder = Recorder(dict(first_paths(model)))
    dtype = pass_dtype(model, case)
    output: Any = None
    cause: BaseException | None = None
    training = case.mode == "train"
    with (
        untouched(model, training=training, unreal=unreal),
        recorder.attached(),
        plain_attention() if unreal else nullcontext(),
        seeded(seed),
        torch.no_grad(),
    ):
        generator = torch.Generator().manual_seed(seed)
        args, kwargs = make([case.call.args, case.call.kwargs], generator, dtype)
        if case.channels_last:
            args, kwargs = tree_map(_channels_last, (args, kwargs))
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=case.autocast):
                output = run_model(model, args, kwargs, dtype=dtype, stand_ins=stand_ins)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            cause = error
    described = None if cause is not None else describe(output)
    if stand_ins is meta_values:
        device = next((str(p.device) for p in model.parameters()), "cpu")
        recorder.visits = [_placed(visit, device) for visit in recorder.visits]
        described = None if described is None else placed(described, device)
    finite = None if unreal or cause is not None else _all_finite(output)
    seen = Pass(
        case=case.key,
        visits=tuple(recorder.visits),
        output=described,
        finite=finite,
        error="" if cause is None else one_line(cause),
        raised_in=recorder.innermost() if cause is not None else "",
    )
    missing, missing_at = _missing(cause, recorder.paths)
    seen = replace(seen, missing=missing, missing_at=missing_at)
    clues = {path: tuple(found) for path, found in recorder.same_tensor.items()}
    return Trace(seen, clues, tuple(recorder.clues), unreal, cause)


def _missing(cause: BaseException | None, paths: Mapping[nn.Module, str]) -> tuple[str, str]:
    """Return the attribute that a module was asked for and has not, and the module's path."""
    if not isinstance(cause, AttributeError) or not isinstance(cause.obj, nn.Module):
        return "", ""
    path = paths.get(cause.obj)
    return ("", "") if path is None else (str(cause.name), path)


def _placed(visit: Visit, device: str) -> Visit:
    """Return a call as it would have been on a device; how its output lies is not known."""
    call = replace(
        visit.call,
        args=tuple(placed(value, device) for value in visit.call.args),
        kwargs=tuple((name, placed(value, device)) for name, value in visit.call.kwargs),
        output=placed(visit.call.output, device),
    )
    return replace(visit, call=call, lies="")


def _channels_last(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def _all_finite(output: Any) -> bool:
    floating = [t for t in live_tensors(output) if t.is_floating_point() or t.is_complex()]
    return all(bool(torch.isfinite(tensor).all()) for tensor in floating)


def first_paths(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield every module once, with the first of its paths."""
    for path, module in model.named_modules():
        yield module, path

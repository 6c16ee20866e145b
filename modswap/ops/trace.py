"""One forward pass of the model, with every module's calls written down."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from modswap.core.layout import Clue, judge_layout
from modswap.core.site import Call, Site
from modswap.core.values import placed
from modswap.core.verdict import Pass, Visit
from modswap.nn.trial import plain_attention
from modswap.ops.conventions import convention
from modswap.ops.describe import class_name, describe, dtype_name, live_tensors, one_line
from modswap.ops.fake import StandIns, fake_values, meta_values
from modswap.ops.grids import grids_of, maps_of
from modswap.ops.inputs import Case, make
from modswap.ops.shortcuts import Shortcuts
from modswap.ops.untouched import untouched


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
    recorder = _Recorder(dict(_first_paths(model)))
    dtype = pass_dtype(model, case)
    output: Any = None
    cause: BaseException | None = None
    training = case.mode == "train"
    with (
        untouched(model, training=training, unreal=unreal),
        recorder.attached(),
        plain_attention() if unreal else nullcontext(),
        torch.no_grad(),
    ):
        torch.manual_seed(seed)
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


def pass_dtype(model: nn.Module, case: Case) -> torch.dtype | None:
    """Return the dtype to run in, or None for the model's own.

    A model stored in half precision, as published checkpoints often are, runs in float32 unless its
    input says otherwise.

    Args:
        model: The model.
        case: The pass.
    """
    if case.dtype is not None:
        return getattr(torch, case.dtype)  # type: ignore[no-any-return] # by name
    held = {p.dtype for p in model.parameters() if p.is_floating_point()}
    halves = bool(held) and held <= {torch.float16, torch.bfloat16}
    return torch.float32 if halves and not case.call.asks_for_half else None


def run_model(
    model: nn.Module,
    args: Any,
    kwargs: Any,
    *,
    dtype: torch.dtype | None,
    stand_ins: StandIns | None,
) -> Any:
    """Return the model's output, its tensors replaced by stand-ins or cast ones where asked.

    Args:
        model: The model.
        args: Positional inputs.
        kwargs: Keyword inputs.
        dtype: What floating tensors are cast to; None for nothing.
        stand_ins: Makes tensors without data; None to run on the model's own.
    """
    if stand_ins is not None:
        with stand_ins(model, dtype) as (tensors, moved):
            inputs, named = moved(args), moved(kwargs)
            return torch.func.functional_call(model, tensors, tuple(inputs), named)
    if dtype is not None:
        cast = {name: _cast(tensor, dtype) for name, tensor in named_tensors(model).items()}
        return torch.func.functional_call(model, cast, tuple(args), kwargs)
    return model(*args, **kwargs)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    # a copy even where the dtype is right: buffers may be written during the pass
    return tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and buffer by every name it has."""
    found: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    found.update(model.named_buffers(remove_duplicate=False))
    return found


def _all_finite(output: Any) -> bool:
    floating = [t for t in live_tensors(output) if t.is_floating_point() or t.is_complex()]
    return all(bool(torch.isfinite(tensor).all()) for tensor in floating)


def _first_paths(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for path, module in model.named_modules():
        yield module, path


class _Recorder:
    """Hooks on every module; lives for one pass."""

    def __init__(self, paths: Mapping[nn.Module, str]) -> None:
        self.paths = paths
        self.visits: list[Visit] = []
        self.clues: list[Clue] = []
        self.same_tensor: dict[str, list[Clue]] = {}
        self._running: list[tuple[str, torch.Tensor | None]] = []
        self._givers: list[tuple[torch.Tensor, Clue]] = []

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
            self._givers.clear()

    def innermost(self) -> str:
        """Return the path of the module that was running last."""
        return self._running[-1][0] if self._running else ""

    def _before(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        first = next(iter(live_tensors([args, kwargs])), None)
        self._running.append((path, first))
        if first is None:
            return
        clue = self._clue(path, module, first)
        if clue is not None:
            self.clues.append(clue)
            for around, tensor in self._running:
                if tensor is first:
                    self.same_tensor.setdefault(around, []).append(clue)
        given = next((giver for tensor, giver in self._givers if tensor is first), None)
        if given is not None and clue is None:
            self.same_tensor.setdefault(path, []).append(given)

    def _after(self, path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        while self._running and self._running.pop()[0] != path:
            pass  # a module inside raised and its caller caught that
        named = tuple((name, describe(value)) for name, value in kwargs.items())
        inputs = tuple(describe(value) for value in args)
        call = Call(inputs, named, describe(output), _same((*args, *kwargs.values())))
        around = tuple(outer for outer, _ in self._running)
        self.visits.append(Visit(path, call, around, _lies(output)))
        if isinstance(output, torch.Tensor):
            clue = self._clue(path, module, output)
            if clue is not None:
                # only the latest few: a consumer follows its producer closely
                self._givers = [*self._givers[-7:], (output, clue)]

    @staticmethod
    def _clue(path: str, module: nn.Module, tensor: torch.Tensor) -> Clue | None:
        layout = convention(module, tensor.ndim)
        if layout is None:
            return None
        return Clue(path, type(module).__name__, layout, tuple(tensor.shape))


def sites_of(model: nn.Module, traces: tuple[Trace, ...]) -> tuple[Site, ...]:
    """Return every module of the model but the model itself, with all that the passes saw.

    Args:
        model: The model.
        traces: Passes over it.
    """
    aliases = _aliases(model)
    calls: dict[str, list[Call]] = {}
    for one in traces:
        for path, found in one.seen.by_path().items():
            calls.setdefault(path, []).extend(found)
    clues = [clue for one in traces for clue in one.clues]
    same: dict[str, list[Clue]] = {}
    for one in traces:
        for path, given in one.same_tensor.items():
            same.setdefault(path, []).extend(given)
    maps = [maps_of(one.seen.visits, one.clues) for one in traces]
    sites = (
        _site(path, module, aliases[module], tuple(calls.get(path, ())), same.get(path, []), clues)
        for module, path in _first_paths(model)
        if path
    )
    return tuple(replace(site, grids=grids_of(site, maps)) for site in sites)


def _aliases(model: nn.Module) -> dict[nn.Module, tuple[str, ...]]:
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    return {module: tuple(found[1:]) for module, found in paths.items()}


def _site(
    path: str,
    module: nn.Module,
    aliases: tuple[str, ...],
    calls: tuple[Call, ...],
    same: list[Clue],
    clues: list[Clue],
) -> Site:
    parameters = list(module.parameters())
    floating = next((p for p in parameters if p.is_floating_point()), None)
    seen = Site(path, class_name(module), aliases, calls).input
    layout, reason = judge_layout(path, seen.shape, same, clues) if seen else (None, "")
    maps = [p for p in parameters if p.ndim == 4]
    dtype = dtype_name(floating.dtype) if floating is not None else (seen.dtype if seen else "")
    device = str(floating.device) if floating is not None else (seen.device if seen else "cpu")
    return Site(
        path=path,
        class_name=class_name(module),
        aliases=aliases,
        calls=calls,
        layout=layout,
        layout_reason=reason,
        params=sum(p.numel() for p in parameters),
        nbytes=sum(t.numel() * t.element_size() for t in (*parameters, *module.buffers())),
        dtype=dtype or "float32",
        device=device,
        training=module.training,
        trainable=not parameters or any(p.requires_grad for p in parameters),
        channels_last=bool(maps) and all(_is_channels_last(p) for p in maps),
    )


def _is_channels_last(tensor: torch.Tensor) -> bool:
    last = tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


def _same(inputs: tuple[Any, ...]) -> tuple[int, ...]:
    """Return for each tensor the index of the first that is the same; empty if all differ."""
    given = [tensor for value in inputs for tensor in live_tensors(value)]
    seen: dict[int, int] = {}
    firsts = tuple(seen.setdefault(id(tensor), index) for index, tensor in enumerate(given))
    return firsts if len(seen) < len(given) else ()


def _lies(output: Any) -> str:
    """Return how a map lies in memory; empty for anything else, and what lies in both ways."""
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        return ""
    last = output.is_contiguous(memory_format=torch.channels_last)
    if output.is_contiguous():
        return "" if last else "contiguous"
    return "channels_last" if last else "other"

"""What a model and its swapped sites cost, found on tensors without data."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from modswap.core.decided.cost import Cost
from modswap.nn.attention_backend import plain_attention
from modswap.ops.measure.meter import LikeCpu, Meter
from modswap.ops.run.describe import live_tensors, one_line
from modswap.ops.run.forward import named_tensors, pass_dtype
from modswap.ops.run.inputs import Case, make
from modswap.ops.run.isolation import untouched
from modswap.ops.run.stand_ins import StandIns, fake_values, meta_values
from modswap.seeds import seeded


@dataclass(frozen=True, slots=True)
class _Shape:
    """What stands for a tensor that a module was given."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Given:
    """One call of a module: its arguments, shapes in place of tensors."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Costs:
    """What a model costs, and what some of its modules do by themselves.

    Args:
        model: The model.
        sites: The modules, by path.
        unknown: Why a module's cost is not known, by path.
    """

    model: Cost
    sites: Mapping[str, Cost] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


def costs_of(
    model: nn.Module, case: Case, watched: Mapping[str, nn.Module] | None = None, *, seed: int = 0
) -> Costs:
    """Return what a pass over a model costs. No weight is read, the model is as it was.

    Attention is counted as on the CPU, whatever device the weights are on. A site by itself is
    charged with its input and output as well.

    Args:
        model: The model.
        case: Input, mode and dtype; FLOPs are those of its first call.
        watched: Modules whose own cost is wanted, by path.
        seed: For what the model draws.
    """
    dtype = pass_dtype(model, case)
    given: dict[str, list[Given]] = {}
    inference = run_unreal(model, case, dtype=dtype, seed=seed, given=(given, watched or {}))
    training = run_unreal(model, case, dtype=dtype, seed=seed, training=True)
    sites: dict[str, Cost] = {}
    unknown: dict[str, str] = {}
    for path, module in (watched or {}).items():
        try:
            sites[path] = _site(module, given.get(path, ()), dtype)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            unknown[path] = one_line(error, 120)
    return Costs(_cost(model, inference, training), sites, unknown)


def peak_of(model: nn.Module, case: Case, *, seed: int = 0) -> int:
    """Return the predicted peak of a pass without gradients, in bytes; nothing is allocated.

    Args:
        model: The model.
        case: The pass.
        seed: For what the model draws.
    """
    return run_unreal(model, case, dtype=pass_dtype(model, case), seed=seed).peak


def _cost(module: nn.Module, inference: Meter, training: Meter) -> Cost:
    return Cost(
        params=sum(parameter.numel() for parameter in module.parameters()),
        flops=inference.flops,
        activation_bytes=sum(training.saved.values()),
        peak_inference=inference.peak,
        peak_training=training.peak,
    )


def run_unreal(
    model: nn.Module,
    case: Case,
    *,
    dtype: torch.dtype | None,
    seed: int = 0,
    training: bool = False,
    given: tuple[dict[str, list[Given]], Mapping[str, nn.Module]] | None = None,
) -> Meter:
    """Return what a meter counted in a pass on the meta device, or on fake tensors if that fails.

    Args:
        model: The model.
        case: Input and mode.
        dtype: Floating dtype of stand-ins and inputs; None for their own.
        seed: For what the model draws.
        training: Whether to run backward as well, in training mode if the model runs in it.
        given: Where to write the calls of modules, and these modules by path.
    """
    run = partial(_unreal, model, case, dtype, seed, given)
    modes = (True, False) if training else (case.mode == "train",)
    # batch norm, for one, refuses a single value in training mode
    tries = [(values, mode) for values in (meta_values, fake_values) for mode in modes]
    for values, mode in tries[:-1]:
        try:
            return run(values, mode=mode, gradients=training)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            del error
    values, mode = tries[-1]
    return run(values, mode=mode, gradients=training)


def _unreal(  # noqa: PLR0913 - one pass
    model: nn.Module,
    case: Case,
    dtype: torch.dtype | None,
    seed: int,
    given: tuple[dict[str, list[Given]], Mapping[str, nn.Module]] | None,
    stand_ins: StandIns,
    *,
    mode: bool,
    gradients: bool,
) -> Meter:
    calls, watched = given or ({}, {})
    calls.clear()
    with (
        untouched(model, training=mode, unreal=True),
        seeded(seed),
        plain_attention(),
        stand_ins(model, dtype) as made,
    ):
        tensors, moved = made
        # made without data: not even the input is allocated
        args, kwargs = (moved(make(v, None, dtype)) for v in (case.call.args, case.call.kwargs))
        _asking(model, tensors, gradients=gradients)
        with _noted(calls, watched):
            return metered(model, tensors, args, kwargs, gradients=gradients)


def metered(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    args: Any,
    kwargs: Mapping[str, Any],
    *,
    gradients: bool,
) -> Meter:
    """Return what a meter counted in one pass over a model.

    Args:
        model: The model.
        tensors: What takes the place of its parameters and buffers; real or without data.
        args: Positional inputs.
        kwargs: Keyword inputs.
        gradients: Whether to keep activations and to run backward from gradients of the outputs.
    """
    meter = Meter()
    meter.hold(tensors.values(), saved=False)
    meter.hold(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor))
    call = partial(torch.func.functional_call, model, dict(tensors), tuple(args), dict(kwargs))
    with torch.set_grad_enabled(gradients), LikeCpu(), meter:
        if not gradients:
            output = call()
            return meter
        with meter.keeping():
            output = call()
        wanted = [tensor for tensor in live_tensors(output) if tensor.requires_grad]
        if wanted:
            torch.autograd.backward(wanted, [torch.ones_like(tensor) for tensor in wanted])
    return meter


def _asking(model: nn.Module, tensors: Mapping[str, torch.Tensor], *, gradients: bool) -> None:
    """Have stand-ins ask for gradients where their parameters do; all of them if none does."""
    if not gradients:
        return
    named = dict(model.named_parameters(remove_duplicate=False))
    frozen = not any(parameter.requires_grad for parameter in named.values())
    for name, parameter in named.items():
        if tensors[name].is_floating_point() and (frozen or parameter.requires_grad):
            tensors[name].requires_grad_()


@contextmanager
def _noted(calls: dict[str, list[Given]], watched: Mapping[str, nn.Module]) -> Iterator[None]:
    """Write down the arguments of modules, as tensors without data of their own."""

    def note(path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        del module
        calls.setdefault(path, []).append(Given(*_emptied((args, kwargs))))

    handles = [
        module.register_forward_pre_hook(partial(note, path), with_kwargs=True)
        for path, module in watched.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _emptied(value: Any) -> Any:
    """Return arguments with shapes in place of their tensors, which would be held by them."""

    def empty(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return _Shape(tuple(leaf.shape), leaf.stride(), leaf.dtype)

    return tree_map(empty, value)


def _site(module: nn.Module, given: Any, dtype: torch.dtype | None) -> Cost:
    """Return what the calls of a module cost, one after another."""
    if not given:
        raise ValueError("the pass does not reach it")
    found = [
        _cost(module, _alone(module, dtype, one), _alone(module, dtype, one, gradients=True))
        for one in given
    ]
    return Cost(
        params=found[0].params,
        flops=sum(one.flops for one in found),
        activation_bytes=sum(one.activation_bytes for one in found),
        peak_inference=max(one.peak_inference for one in found),
        peak_training=max(one.peak_training for one in found),
    )


def _alone(
    module: nn.Module, dtype: torch.dtype | None, given: Given, *, gradients: bool = False
) -> Meter:
    def made(leaf: Any) -> Any:
        if not isinstance(leaf, _Shape):
            return leaf
        tensor = torch.empty_strided(leaf.shape, leaf.stride, dtype=leaf.dtype, device="meta")
        if not (gradients and leaf.dtype.is_floating_point):
            return tensor
        # not the leaf itself: what works in place refuses that
        return tensor.requires_grad_().clone()

    with untouched(module, training=False, unreal=True), meta_values(module, dtype) as (tensors, _):
        _asking(module, tensors, gradients=gradients)
        args, kwargs = tree_map(made, (given.args, given.kwargs))
        return metered(module, tensors, args, kwargs, gradients=gradients)


def real_costs(model: nn.Module, args: tuple[Any, ...]) -> Cost:
    """Return the same numbers counted on a real pass, which allocates; for comparing.

    Args:
        model: The model; its gradients are dropped.
        args: Its inputs.
    """
    tensors = named_tensors(model)
    with untouched(model, training=False):
        inference = metered(model, tensors, args, {}, gradients=False)
    with untouched(model, training=True):
        training = metered(model, tensors, args, {}, gradients=True)
    model.zero_grad()
    return _cost(model, inference, training)

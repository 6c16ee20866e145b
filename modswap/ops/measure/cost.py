"""Count the cost of a model and of its swapped sites, on tensors without data."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import nn

from modswap.core.decided.cost import PassCost
from modswap.live_values import live_tensors, map_leaves, map_tensors
from modswap.nn.attention_backend import plain_attention
from modswap.ops.measure.meter import LikeCpu, Meter
from modswap.ops.run.describe import one_line
from modswap.ops.run.forward import pass_dtype
from modswap.ops.run.inputs import Case, make
from modswap.ops.run.isolation import untouched
from modswap.ops.run.stand_ins import StandIns, fake_values, meta_values
from modswap.seeds import seeded


@dataclass(frozen=True, slots=True)
class _Shape:
    """The shape, strides and dtype of a tensor that a module was given."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of a model, and that of some of its modules alone."""

    model: PassCost
    sites: Mapping[str, PassCost] = field(default_factory=dict)  # of the modules, by path
    unknown: Mapping[str, str] = field(default_factory=dict)  # the reasons, by path


Given = tuple[tuple[Any, ...], dict[str, Any]]  # arguments of a call, shapes in place of tensors
Calls = dict[str, list[Given]]


def costs_of(
    model: nn.Module, case: Case, watched: Mapping[str, nn.Module] | None = None, *, seed: int = 0
) -> Costs:
    """Return the cost of a pass over a model. No weight is read, the model stays as it is.

    Attention is counted as on the CPU, also for weights on other devices. The cost of a site alone
    includes its input and output; `watched` are such modules, by path.
    """
    inference, calls = _counted(model, case, seed, watched)
    training, _ = _counted(model, case, seed, gradients=True)
    dtype = pass_dtype(model, case)
    sites: dict[str, PassCost] = {}
    unknown: dict[str, str] = {}
    for path, module in (watched or {}).items():
        try:
            sites[path] = _site(module, calls.get(path, ()), dtype)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            unknown[path] = one_line(error, 120)
    return Costs(cost_of(model, inference, training), sites, unknown)


class Peak(NamedTuple):
    """The most bytes that a pass takes at a time."""

    nbytes: int
    beside: int  # without the weights


def peak_of(model: nn.Module, case: Case, *, seed: int = 0) -> Peak:
    """Return the predicted peak of a pass without gradients; nothing is allocated."""
    meter, _ = _counted(model, case, seed)
    return Peak(meter.peak, meter.peak - meter.weights)


def cost_of(module: nn.Module, inference: Meter, training: Meter) -> PassCost:
    """Return the cost of a module from the meters of a pass without and with gradients."""
    return PassCost(
        params=sum(parameter.numel() for parameter in module.parameters()),
        flops=inference.flops,
        activation_bytes=sum(training.saved.values()),
        peak_inference=inference.peak,
        peak_training=training.peak,
    )


def _counted(
    model: nn.Module,
    case: Case,
    seed: int,
    watched: Mapping[str, nn.Module] | None = None,
    *,
    gradients: bool = False,
) -> tuple[Meter, Calls]:
    """Return the meter of a pass, and the calls of watched modules by path.

    The pass runs on the meta device, or on fake tensors if that fails. With gradients it runs
    backward as well, in training mode if the model runs in it.
    """
    # batch norm, for one, refuses a single value in training mode
    modes = ("train", "eval") if gradients else (case.mode,)
    *firsts, last = (
        partial(_run, model, case.in_mode(mode), seed, watched or {}, values, gradients=gradients)
        for values, mode in product((meta_values, fake_values), modes)
    )
    for run in firsts:
        try:
            return run()
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            del error
    return last()


def _run(
    model: nn.Module,
    case: Case,
    seed: int,
    watched: Mapping[str, nn.Module],
    stand_ins: StandIns,
    *,
    gradients: bool,
) -> tuple[Meter, Calls]:
    calls, dtype = Calls(), pass_dtype(model, case)
    with (
        untouched(model, training=case.mode == "train", unreal=True),
        seeded(seed),
        plain_attention(),
        stand_ins(model, dtype) as (tensors, moved),
    ):
        # made without data, so that not even the input is allocated
        args, kwargs = (moved(make(v, None, dtype)) for v in (case.call.args, case.call.kwargs))
        if gradients:
            _require_gradients(model, tensors)
        with _recorded(calls, watched):
            return metered(model, tensors, args, kwargs, gradients=gradients), calls


def metered(
    model: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    args: Any,
    kwargs: Mapping[str, Any],
    *,
    gradients: bool,
    meter: Meter | None = None,
) -> Meter:
    """Return the meter of one pass over a model, the given one or a new one.

    With gradients it keeps activations, and runs backward from gradients of the outputs. The
    tensors stand for its parameters and buffers; they are real or without data.
    """
    meter = Meter() if meter is None else meter
    meter.hold(tensors.values(), saved=False)
    meter.weights = meter.live
    meter.hold(live_tensors((args, kwargs)))
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


def _require_gradients(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Make stand-ins require gradients where their parameters do; all if no parameter does."""
    named = dict(model.named_parameters(remove_duplicate=False))
    frozen = not any(parameter.requires_grad for parameter in named.values())
    for name, parameter in named.items():
        if tensors[name].is_floating_point() and (frozen or parameter.requires_grad):
            tensors[name].requires_grad_()


@contextmanager
def _recorded(calls: Calls, watched: Mapping[str, nn.Module]) -> Iterator[None]:
    """Record the arguments of modules in a block, shapes in place of tensors."""

    def note(path: str, _: nn.Module, args: Any, kwargs: Any) -> None:
        calls.setdefault(path, []).append(map_tensors(_emptied, (args, kwargs)))

    with ExitStack() as hooks:
        for path, module in watched.items():
            hook = partial(note, path)
            hooks.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield


def _emptied(tensor: torch.Tensor) -> _Shape:
    """Return the shape in place of a tensor, so that the tensor is not kept alive."""
    return _Shape(tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _site(module: nn.Module, calls: Sequence[Given], dtype: torch.dtype | None) -> PassCost:
    """Return the cost of the calls of a module, one after another."""
    if not calls:
        raise ValueError("the pass does not reach it")
    found = [
        cost_of(module, _alone(module, dtype, call), _alone(module, dtype, call, gradients=True))
        for call in calls
    ]
    return PassCost(
        params=found[0].params,
        flops=sum(cost.flops for cost in found),
        activation_bytes=sum(cost.activation_bytes for cost in found),
        peak_inference=max(cost.peak_inference for cost in found),
        peak_training=max(cost.peak_training for cost in found),
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
        # not the leaf itself: operations in place refuse leaves
        return tensor.requires_grad_().clone()

    with untouched(module, training=False, unreal=True), meta_values(module, dtype) as (tensors, _):
        if gradients:
            _require_gradients(module, tensors)
        args, kwargs = map_leaves(made, given)
        return metered(module, tensors, args, kwargs, gradients=gradients)

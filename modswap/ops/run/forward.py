"""Run a model's forward pass, on its own tensors or on stand-ins."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from modswap.live_values import changed_tensors
from modswap.ops.run.devices import device_of
from modswap.ops.run.inputs import Case
from modswap.ops.run.isolation import untouched
from modswap.ops.run.stand_ins import StandIns
from modswap.seeds import seeded


def pass_dtype(model: nn.Module, case: Case) -> torch.dtype | None:
    """Return the dtype of a pass: of its inputs that are declared float32, and of its weights.

    None keeps both as they are. This function alone decides the precision of every pass. A model
    stored in half precision, as published checkpoints often are, runs in float32 unless its input
    says otherwise; the matrix runs it in its own precision as well. A model in float64 takes inputs
    of float64.
    """
    if case.dtype is not None:
        return getattr(torch, case.dtype)  # type: ignore[no-any-return] # by name
    asked = {tensor.dtype for tensor in case.call.tensors} & {"float16", "bfloat16"}
    if half_of(model) and not asked:
        return torch.float32
    return torch.float64 if _dtypes(model) == {torch.float64} else None


def half_of(model: nn.Module) -> torch.dtype | None:
    """Return the dtype of a model that is stored in half precision alone; None of any other."""
    held = _dtypes(model)
    return next(iter(held)) if held and held <= {torch.float16, torch.bfloat16} else None


def _dtypes(model: nn.Module) -> set[torch.dtype]:
    return {p.dtype for p in model.parameters() if p.is_floating_point()}


def run_model(
    model: nn.Module,
    args: Any,
    kwargs: Any,
    *,
    dtype: torch.dtype | None,
    stand_ins: StandIns | None,
    within: AbstractContextManager[Any] | None = None,
) -> Any:
    """Return the model's output, with stand-ins or copies cast to `dtype` for its tensors.

    Without both it runs on the model's own tensors. The forward pass alone runs `within` a mode.
    """
    if stand_ins is not None:
        with stand_ins(model, dtype) as (tensors, moved), within or nullcontext():
            inputs, named = moved(args), moved(kwargs)
            # each name is given, those of tied tensors too
            return torch.func.functional_call(
                model, tensors, tuple(inputs), named, tie_weights=False
            )
    if dtype is not None:
        # a copy even of the right dtype: the pass may write to buffers
        cast = changed_tensors(
            model, lambda t: t.detach().to(dtype if t.is_floating_point() else None, copy=True)
        )
        with within or nullcontext():
            return torch.func.functional_call(model, cast, tuple(args), kwargs)
    with within or nullcontext():
        return model(*args, **kwargs)


@contextmanager
def ready(model: nn.Module, case: Case, seed: int) -> Iterator[tuple[Any, Any, torch.dtype | None]]:
    """Give the inputs and the dtype of a real pass; afterwards the model is restored."""
    dtype = pass_dtype(model, case)
    with untouched(model, training=case.mode == "train"), seeded(seed), torch.no_grad():
        args, kwargs = case.call.live(seed, dtype, device_of(model))
        yield args, kwargs, dtype
